//! Limits for archives from elsewhere.

/// The limits beyond which a reader gives up with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Number of entries.
    pub max_entries: u64,
    /// Bytes of a path or of a link's target.
    pub max_path: usize,
    /// Bytes of the archive and of the holes in its files.
    pub max_total_bytes: u64,
    /// Bytes of PAX records, long names and sparse maps of one entry.
    pub max_header_bytes: u64,
    /// Bytes for each byte of the compressed archive.
    pub max_ratio: u64,
    /// Bytes that an archive may have at any compressed size.
    pub free_bytes: u64,
    /// Entries that an archive may have at any compressed size.
    pub free_entries: u64,
}

/// Bytes of a compressed archive that are counted for an entry: one with data of its own takes
/// some.
const BYTES_PER_ENTRY: u64 = 8;

impl Limits {
    /// The default limits: more than the largest images need; for a small archive, no more than
    /// files of zeros would expand it to.
    pub const DEFAULT: Self = Self {
        max_entries: 2_000_000,
        // Linux's limit in one call.
        max_path: 4096,
        max_total_bytes: 128 << 30,
        // The limit of Go's archive/tar, with which all other builders read.
        max_header_bytes: 1 << 20,
        max_ratio: 200,
        free_bytes: 16 << 30,
        free_entries: 500_000,
    };

    /// Returns the limits for an archive of this compressed size, in bytes.
    #[must_use]
    pub fn of_compressed(mut self, size: u64) -> Self {
        let bytes = size.saturating_mul(self.max_ratio).max(self.free_bytes);
        let entries = (size / BYTES_PER_ENTRY).max(self.free_entries);
        self.max_total_bytes = self.max_total_bytes.min(bytes);
        self.max_entries = self.max_entries.min(entries);
        self
    }

    /// Bytes of all paths together, including directories on the way.
    pub fn max_path_bytes(&self) -> u64 {
        self.max_entries.saturating_mul(64).max(128 << 20)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
