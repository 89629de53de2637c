//! Errors of reading and writing caches.

use std::io;
use std::path::PathBuf;

use oci::Digest;

/// A cache that cannot be read or written. No message has a secret in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request to a registry failed.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// A file of a folder in the OCI layout cannot be read.
    #[error("`{}`: {fault}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        fault: FileFault,
    },
    /// There is no cache.
    #[error("`{backend}` holds no cache yet")]
    Absent {
        /// The back end's name.
        backend: String,
    },
    /// Settings of a back end that contradict themselves.
    #[error("`{backend}`: {fault}")]
    Settings {
        /// The back end's name.
        backend: String,
        /// The reason.
        fault: SettingsFault,
    },
    /// A back end did not do what it was asked.
    #[error("`{backend}`: {what}")]
    Backend {
        /// The back end's name.
        backend: String,
        /// The action and the answer. A text, since secrets were removed from it.
        what: String,
    },
    /// A folder in the OCI layout could not be written.
    #[error(transparent)]
    Layout(#[from] transfer::LayoutError),
    /// The reference names something else than a cache.
    #[error("`{digest}` holds no build cache; an image gets one with `--cache-to type=inline`")]
    NoCache {
        /// Digest of what it names.
        digest: Digest,
    },
    /// A document cannot be read.
    #[error("damaged build cache: {0}")]
    Damaged(String),
    /// Other builds kept writing at the same time.
    #[error(
        "others wrote to `{backend}` each of the {attempts} times that this build's records were added"
    )]
    Contended {
        /// The back end's name.
        backend: String,
        /// Number of attempts.
        attempts: u32,
    },
    /// A layer could not be moved or compressed.
    #[error(transparent)]
    Layer(#[from] transfer::Error),
}

/// The reason why a file of a folder in the OCI layout cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// An operation on it failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is larger than the given number of bytes.
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    /// It was changed.
    #[error("the content does not have the digest that the name says")]
    OtherDigest,
}

/// The reason why settings of a back end cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsFault {
    /// The name of an object would not be the one that BuildKit looks for.
    #[error(
        "the object name `{0}` begins with `/`, has an empty part, or a character that object stores advise against"
    )]
    ObjectName(String),
    /// An address is not a URL.
    #[error("its address is not a URL")]
    Address,
    /// An address has no host.
    #[error("its address has no host")]
    NoHost,
    /// A bucket's name cannot become a part of an IP address.
    #[error("an address without a name needs `use_path_style=true`")]
    NeedsPathStyle,
    /// The library of object stores refuses the settings. A text, since secrets were removed from it.
    #[error("{0}")]
    Refused(String),
    /// The token lists no caches that it opens.
    #[error("the token is not one of GitHub's runtime tokens (ACTIONS_RUNTIME_TOKEN)")]
    Token,
}

impl Error {
    /// The layers, by diffID, whose loss is the reason for the error.
    pub fn lost_layers(&self) -> Vec<Digest> {
        match self {
            // A transparent error skips the error in it as its source.
            Self::Layer(error) => transfer::lost_layers(error),
            error => transfer::lost_layers(error),
        }
    }

    /// True if there is no cache, as before the first export.
    pub fn is_absent(&self) -> bool {
        match self {
            Self::Registry(error) => error.is_not_found(),
            Self::Absent { .. } => true,
            _ => false,
        }
    }

    /// True if there is something else than a readable cache.
    pub fn is_of_content(&self) -> bool {
        matches!(self, Self::NoCache { .. } | Self::Damaged(_))
    }
}
