//! Records of earlier builds, from any number of sources.

use std::sync::Arc;

use oci::Digest;

/// A record of one source of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId {
    /// The source; 0 is this machine.
    pub source: u16,
    /// The record's number in its source.
    pub number: i64,
}

impl RecordId {
    /// True if this machine keeps the record.
    pub fn is_local(self) -> bool {
        self.source == 0
    }
}

/// An output that a record names. Its bytes may be elsewhere.
#[derive(Clone, Debug)]
pub struct FoundOutput<C> {
    /// The layers.
    pub chain: C,
    /// When it was made, RFC 3339.
    pub created: String,
    /// The name of the source, for people.
    pub source: Arc<str>,
}

/// One way in which an input of a record is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// By a record of the input's step, and the part of it that is read.
    Record {
        /// A record of this machine.
        record: RecordId,
        /// The part.
        selector: Option<Digest>,
    },
    /// By what was read: the digest of the content's record.
    Content(Digest),
}

/// A record to be kept.
#[derive(Clone, Debug)]
pub struct NewRecord<C> {
    /// Its digest.
    pub digest: Digest,
    /// For each input, all the ways in which it is known.
    pub inputs: Vec<Vec<Link>>,
    /// The output, if it is known.
    pub output: Option<C>,
}

/// Records of this machine and of other places. Answers come from memory or a local table: the
/// solver asks often and does not wait.
pub trait Cache: Send + Sync {
    /// An output as records keep it.
    type Chain: Clone + Send + Sync;

    /// Records without inputs that have this digest.
    fn roots(&self, digest: Digest) -> Vec<RecordId>;

    /// Records with this digest whose input is known by `parent` and `selector`.
    fn linked(
        &self,
        parent: RecordId,
        digest: Digest,
        input: usize,
        selector: Option<Digest>,
    ) -> Vec<RecordId>;

    /// The outputs of a record, newest first.
    fn results(&self, record: RecordId) -> Vec<FoundOutput<Self::Chain>>;

    /// Digests of the content records by which an input of a record is known.
    fn content_links(&self, record: RecordId, input: usize) -> Vec<Digest>;

    /// Keeps a record on this machine; one that is there already gets the new links and output.
    fn save(&self, record: NewRecord<Self::Chain>) -> RecordId;
}
