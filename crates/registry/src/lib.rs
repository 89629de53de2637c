//! The distribution protocol: auth, manifests, blobs, mirrors, retries
