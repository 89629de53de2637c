//! What goes wrong, and how a registry differs from others.

use std::collections::VecDeque;

use super::FakeRegistry;

/// What goes wrong with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with a status and headers, and not done.
    Status(u16, Vec<(String, String)>),
    /// The connection ends without an answer, and nothing is done.
    Reset,
    /// It is done, and the connection ends without an answer.
    Unanswered,
    /// The answer's body breaks off in the middle; without one it is not answered.
    Cut,
    /// The answer's body is shorter than it should be, and its length is that.
    Short,
    /// The answer's body has other bytes, as many.
    Garbled,
}

impl Fault {
    /// A refusal with a header.
    pub fn status(status: u16, header: Option<(&str, &str)>) -> Self {
        let header = header.map(|(name, value)| (name.into(), value.into()));
        Self::Status(status, header.into_iter().collect())
    }
}

#[derive(Default)]
pub(super) struct Faults {
    /// What goes wrong with which request, counted from now on.
    pub at: Option<(usize, Fault)>,
    /// Status and place of redirects for what is written, and of the token service.
    pub redirect_all: Option<(u16, String)>,
    /// Statuses and headers of the next answers.
    pub fail: VecDeque<(u16, Vec<(String, String)>)>,
    /// After how many bytes the next downloads break.
    pub cut_downloads: VecDeque<usize>,
    /// After how many bytes the next uploads break.
    pub cut_uploads: VecDeque<usize>,
    pub lie: bool,
    pub hide_digests: bool,
    pub no_head: bool,
    pub ignore_ranges: bool,
    pub refuse_mounts: bool,
    pub refuse_whole_blobs: bool,
    pub relative_locations: bool,
    pub untyped_manifests: bool,
    pub redirect_blobs: Option<String>,
}

impl FakeRegistry {
    /// Lets one request go wrong, after `count` others, tokens and redirects included.
    pub fn fail_after(&self, count: usize, fault: Fault) {
        self.shared.lock().faults.at = Some((count, fault));
    }

    /// Whether the request of [`fail_after`](Self::fail_after) came.
    pub fn has_failed(&self) -> bool {
        self.shared.lock().faults.at.is_none()
    }

    /// Sends whoever writes, or asks for a token, to the same path below `base` once.
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

    /// Breaks the connection of the next download of a blob after so many bytes. Calls add up.
    pub fn cut_blob_after(&self, bytes: usize) {
        self.shared.lock().faults.cut_downloads.push_back(bytes);
    }

    /// Breaks the connection of the next upload of a blob after so many bytes, which are kept.
    /// Calls add up.
    pub fn cut_upload_after(&self, bytes: usize) {
        self.shared.lock().faults.cut_uploads.push_back(bytes);
    }

    /// Sends other bytes than those of the digest, of the same length.
    pub fn lie_about_digest(&self) {
        self.shared.lock().faults.lie = true;
    }

    /// Leaves `Docker-Content-Digest` out.
    pub fn hide_digests(&self) {
        self.shared.lock().faults.hide_digests = true;
    }

    /// Refuses HEAD for manifests with 405.
    pub fn refuse_head(&self) {
        self.shared.lock().faults.no_head = true;
    }

    /// Sends whole blobs where parts are asked for.
    pub fn ignore_ranges(&self) {
        self.shared.lock().faults.ignore_ranges = true;
    }

    /// Answers each mount with a fresh upload.
    pub fn refuse_mounts(&self) {
        self.shared.lock().faults.refuse_mounts = true;
    }

    /// Refuses a PUT that brings bytes with 413: they must come by PATCH.
    pub fn refuse_whole_blobs(&self) {
        self.shared.lock().faults.refuse_whole_blobs = true;
    }

    /// Answers with `Location`s that are paths.
    pub fn relative_locations(&self) {
        self.shared.lock().faults.relative_locations = true;
    }

    /// Sends manifests as `application/json`.
    pub fn untyped_manifests(&self) {
        self.shared.lock().faults.untyped_manifests = true;
    }

    /// Sends who asks for a blob to `<base>/blobs/<digest>`, such as `http://` and the
    /// [`host`](FakeRegistry::host) of another registry.
    pub fn redirect_blobs(&self, base: impl Into<String>) {
        self.shared.lock().faults.redirect_blobs = Some(base.into());
    }
}
