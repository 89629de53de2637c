//! Faults of a registry, and its deviations from others.

use std::collections::VecDeque;

use super::FakeRegistry;

/// A fault of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A response with this status and these headers; the request is not executed.
    Status(u16, Vec<(String, String)>),
    /// A closed connection without a response; the request is not executed.
    Reset,
    /// A closed connection without a response, after the request was executed.
    Unanswered,
    /// A body that ends in the middle; without a body, there is no response.
    Cut,
    /// A shorter body, with a matching length.
    Short,
    /// A body with other bytes of the same length.
    Garbled,
}

impl Fault {
    /// A response with this status and header.
    pub fn status(status: u16, header: Option<(&str, &str)>) -> Self {
        let header = header.map(|(name, value)| (name.into(), value.into()));
        Self::Status(status, header.into_iter().collect())
    }
}

#[derive(Default)]
pub(super) struct Faults {
    /// The number of requests before the fault, and the fault.
    pub at: Option<(usize, Fault)>,
    /// Status and base URL of redirects of writes and of token requests.
    pub redirect_all: Option<(u16, String)>,
    /// Statuses and headers of the next responses.
    pub fail: VecDeque<(u16, Vec<(String, String)>)>,
    /// Numbers of bytes after which the next downloads break.
    pub cut_downloads: VecDeque<usize>,
    /// Numbers of bytes after which the next uploads break.
    pub cut_uploads: VecDeque<usize>,
    pub lie: bool,
    pub hide_digests: bool,
    pub no_head: bool,
    /// The number of manifests that are refused because a blob is not found.
    pub overlook_blobs: usize,
    pub ignore_ranges: bool,
    pub refuse_mounts: bool,
    pub refuse_whole_blobs: bool,
    pub relative_locations: bool,
    pub untyped_manifests: bool,
    pub redirect_blobs: Option<String>,
}

impl FakeRegistry {
    /// Makes the request after `count` others fail, tokens and redirects included.
    pub fn fail_after(&self, count: usize, fault: Fault) {
        self.shared.lock().faults.at = Some((count, fault));
    }

    /// True if the request of [`fail_after`](Self::fail_after) has failed.
    pub fn has_failed(&self) -> bool {
        self.shared.lock().faults.at.is_none()
    }

    /// Redirects writes and token requests to the same path below `base`, each once.
    pub fn redirect_all(&self, status: u16, base: impl Into<String>) {
        self.shared.lock().faults.redirect_all = Some((status, base.into()));
    }

    /// Answers the next `count` requests, except those for tokens, with a status and headers.
    pub fn fail_next(&self, count: usize, status: u16, headers: &[(&str, &str)]) {
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let faults = &mut self.shared.lock().faults.fail;
        faults.extend(std::iter::repeat_n((status, headers), count));
    }

    /// Breaks the connection of the next download of a blob after this number of bytes. Calls queue
    /// up.
    pub fn cut_blob_after(&self, bytes: usize) {
        self.shared.lock().faults.cut_downloads.push_back(bytes);
    }

    /// Breaks the connection of the next upload of a blob after this number of bytes, which are
    /// kept. Calls queue up.
    pub fn cut_upload_after(&self, bytes: usize) {
        self.shared.lock().faults.cut_uploads.push_back(bytes);
    }

    /// Sends blobs with wrong bytes, of the right length.
    pub fn lie_about_digest(&self) {
        self.shared.lock().faults.lie = true;
    }

    /// Omits `Docker-Content-Digest`.
    pub fn hide_digests(&self) {
        self.shared.lock().faults.hide_digests = true;
    }

    /// Refuses HEAD for manifests with 405.
    pub fn refuse_head(&self) {
        self.shared.lock().faults.no_head = true;
    }

    /// Refuses the next `count` manifests that are put with `MANIFEST_BLOB_UNKNOWN`.
    pub fn overlook_blobs(&self, count: usize) {
        self.shared.lock().faults.overlook_blobs = count;
    }

    /// Sends whole blobs in response to range requests.
    pub fn ignore_ranges(&self) {
        self.shared.lock().faults.ignore_ranges = true;
    }

    /// Responds to each mount with a new upload.
    pub fn refuse_mounts(&self) {
        self.shared.lock().faults.refuse_mounts = true;
    }

    /// Refuses a PUT with content with 413: it must be sent by PATCH.
    pub fn refuse_whole_blobs(&self) {
        self.shared.lock().faults.refuse_whole_blobs = true;
    }

    /// Sends relative `Location` headers.
    pub fn relative_locations(&self) {
        self.shared.lock().faults.relative_locations = true;
    }

    /// Sends manifests as `application/json`.
    pub fn untyped_manifests(&self) {
        self.shared.lock().faults.untyped_manifests = true;
    }

    /// Redirects requests for blobs to `<base>/blobs/<digest>`, where the base is for example
    /// `http://` and the [`host`](FakeRegistry::host) of another registry.
    pub fn redirect_blobs(&self, base: impl Into<String>) {
        self.shared.lock().faults.redirect_blobs = Some(base.into());
    }
}
