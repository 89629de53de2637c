//! Where bytes live: blobs, unpacked layers, snapshots, layer indexes, content digests
