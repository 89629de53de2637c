//! The seam to the rest of kiln: a solve, typed, and what becomes of it.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use graph::Events;
use oci::Digest;

use crate::raw_source::RawSource;
use crate::session::{ClientSession, Sessions};

/// A type and its attributes: an exporter or a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypedAttributes {
    /// The type, as `registry`.
    pub kind: String,
    /// The attributes.
    pub attributes: BTreeMap<String, String>,
}

/// The request to a frontend.
#[derive(Clone, Debug, Default)]
pub struct FrontendRequest {
    /// Its name: `dockerfile.v0` or `gateway.v0`.
    pub frontend: String,
    /// Its options.
    pub attributes: BTreeMap<String, String>,
    /// Contexts that are results of other solves, by name.
    pub inputs: BTreeMap<String, SolveInput>,
    /// A source instead of a frontend.
    pub source: Option<RawSource>,
}

/// The files of a result.
#[derive(Clone)]
pub struct ResultFolder {
    /// The folder that has them.
    pub path: std::path::PathBuf,
    /// Keeps the folder.
    pub hold: Arc<dyn Any + Send + Sync>,
}

/// A context that is the result of another solve.
#[derive(Clone, Debug)]
pub struct SolveInput {
    /// The handle's name, which the other solve's result has too.
    pub handle: String,
    /// The other solve.
    pub solve: Arc<Solve>,
}

/// Things that stay as long as a client's build: what one of its solves has made for the next.
/// Clones share them.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Vec<Arc<dyn Any + Send + Sync>>>>);

impl Kept {
    /// Keeps a thing.
    pub fn keep(&self, thing: Arc<dyn Any + Send + Sync>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(thing);
    }

    /// Lets go of everything.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept(…)")
    }
}

/// Contexts that came with the request of a build and not from a session, by the addresses that the frontend's options
/// have for them. Clones share them, and each is read once.
#[derive(Clone, Default)]
pub struct UploadedContexts(Arc<Mutex<HashMap<String, UploadReader>>>);

/// The bytes of an upload. Reading may block.
pub type UploadReader = Box<dyn Read + Send>;

impl UploadedContexts {
    /// One upload.
    pub fn of(address: impl Into<String>, reader: UploadReader) -> Self {
        Self(Arc::new(Mutex::new(HashMap::from([(address.into(), reader)]))))
    }

    /// Takes the upload with an address.
    pub fn take(&self, address: &str) -> Option<UploadReader> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(address)
    }
}

impl std::fmt::Debug for UploadedContexts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UploadedContexts(…)")
    }
}

/// A solve: everything that a client asks of a build.
#[derive(Clone, Debug)]
pub struct Solve {
    /// The client's name of the build.
    pub reference: String,
    /// The session of the build; none where nothing of the client is needed.
    pub session: Option<Arc<ClientSession>>,
    /// All sessions, for contexts of another one (`local-sessionid:NAME`).
    pub sessions: Sessions,
    /// The frontend with its options.
    pub frontend: FrontendRequest,
    /// The outputs.
    pub exporters: Vec<TypedAttributes>,
    /// Caches to read.
    pub cache_imports: Vec<TypedAttributes>,
    /// Caches to write.
    pub cache_exports: Vec<TypedAttributes>,
    /// The entitlements that are granted.
    pub entitlements: Vec<String>,
    /// The session whose policy is asked about each source.
    pub policy: Option<Arc<ClientSession>>,
    /// Things that stay until the client's build ends.
    pub kept: Kept,
    /// Contexts that no session has.
    pub uploads: UploadedContexts,
}

/// A build that ended well.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// The answer to the client (`containerimage.digest`, …).
    pub response: BTreeMap<String, String>,
    /// The digest, size and media type of each output that is an image, by the output's place.
    pub images: BTreeMap<usize, (Digest, u64, String)>,
}

/// The answer to a question (`requestid`): the result's metadata.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// `result.json`, `result.txt`, …
    pub metadata: BTreeMap<String, Vec<u8>>,
}

/// A build that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SolveError {
    /// Why.
    pub message: String,
    /// The lines of the Dockerfile, where some are to blame.
    pub lines: Option<ErrorSource>,
    /// True if the request itself is wrong.
    pub is_request: bool,
}

impl SolveError {
    /// A failure without lines.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), lines: None, is_request: false }
    }

    /// An input that is not honoured.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), lines: None, is_request: true }
    }
}

/// Lines of a Dockerfile, for an excerpt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorSource {
    /// The file's name.
    pub filename: String,
    /// The text.
    pub text: Arc<str>,
    /// The first line and the last one, from 1.
    pub lines: (u32, u32),
}

/// The worker, as clients see it.
#[derive(Clone, Debug, Default)]
pub struct WorkerInfo {
    /// Its id.
    pub id: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The platforms that it builds for, its own first.
    pub platforms: Vec<oci::Platform>,
    /// The version that clients compare: BuildKit's whose behaviour this is, and kiln's.
    pub version: String,
    /// kiln's revision.
    pub revision: String,
}

/// The selection of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// Filters in the syntax of containerd.
    pub filters: Vec<String>,
    /// Only what was not used for so long.
    pub unused_for: Option<Duration>,
}

/// The data to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneOptions {
    /// Also what is needed but can be made again.
    pub all: bool,
    /// The selection.
    pub filter: UsageFilter,
    /// Bytes that stay whatever the other limits are.
    pub reserved: Option<u64>,
    /// The most bytes that stay.
    pub max_used: Option<u64>,
    /// Bytes of the disk that are to be free.
    pub min_free: Option<u64>,
}

/// Something that takes room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRecord {
    /// A name for programs.
    pub id: String,
    /// BuildKit's kind: `regular`, `exec.cachemount`, `source.local`, ….
    pub kind: String,
    /// Bytes.
    pub size: u64,
    /// True if it can change.
    pub is_mutable: bool,
    /// True if it stays.
    pub is_in_use: bool,
    /// When it was used last.
    pub last_used: SystemTime,
    /// In words.
    pub description: String,
}

/// Builds what clients ask for.
pub trait Builder: Send + Sync + 'static {
    /// Builds. Dropping the future ends the build.
    fn build(&self, solve: Arc<Solve>, events: Events) -> BoxFuture<'_, Result<Built, SolveError>>;

    /// Answers the question of a solve (`requestid`); none if it asks for a build.
    fn ask(
        &self,
        solve: Arc<Solve>,
        events: Events,
    ) -> BoxFuture<'_, Result<Option<Answer>, SolveError>>;

    /// Builds, and hands over the files.
    ///
    /// # Errors
    /// If a step fails.
    fn files(
        &self,
        solve: Arc<Solve>,
        events: Events,
    ) -> BoxFuture<'_, Result<ResultFolder, SolveError>>;

    /// The worker.
    fn worker(&self) -> WorkerInfo;

    /// The use of the disk.
    ///
    /// # Errors
    /// If a filter is none, or the store cannot be read.
    fn usage(&self, filter: UsageFilter) -> BoxFuture<'_, Result<Vec<UsageRecord>, SolveError>>;

    /// Removes what is not needed, and names it.
    ///
    /// # Errors
    /// If a filter is none, or something cannot be removed.
    fn prune(&self, options: PruneOptions) -> BoxFuture<'_, Result<Vec<UsageRecord>, SolveError>>;

    /// A blob of the store; none if it is not here.
    fn blob(&self, digest: &Digest) -> Option<std::fs::File>;
}
