//! The description of a container: root, command, user, mounts; and of the commands in it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Most lower directories the kernel stacks in one overlay (`OVL_MAX_STACK`).
pub(crate) const MOST_LOWERS: usize = 500;

/// The hostname that BuildKit gives a `RUN` which has none of its own.
const HOSTNAME: &str = "buildkitsandbox";

/// One process to run, and the container around it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Container {
    /// The file tree that the process sees as `/`.
    pub root: RootSource,
    /// The program and its arguments; a program without `/` is looked up in the container's `PATH`.
    pub args: Vec<String>,
    /// The whole environment, in order; only `HOME` is added, from the container's `/etc/passwd`, where it is missing.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute; created (0755, owned by the user) where it is missing.
    pub cwd: String,
    /// `user`, `user:group`, ids or names, resolved in the container's `/etc/passwd` and `/etc/group`; none is root.
    pub user: Option<String>,
    /// The name of the machine, in `/etc/hosts` too.
    pub hostname: String,
    /// Additional lines for `/etc/hosts`.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// An empty folder on the file system of a root that is a plain folder, for what is put aside while the process
    /// runs. Needed where nothing can be mounted; it may have something in it afterwards.
    pub aside: Option<PathBuf>,
    /// The network of the process.
    pub network: Network,
    /// The rights of the process.
    pub security: Security,
    /// Mounts over the defaults (`/proc`, `/dev`, `/sys`, …), in mounting order; one with the target of a default
    /// replaces it.
    pub mounts: Vec<Mount>,
    /// Resource limits; the others are the caller's.
    pub ulimits: Vec<Ulimit>,
    /// True if nothing may be written to the root itself, as with `docker run --read-only`. Mounts are as they say.
    pub readonly_root: bool,
    /// True if the command is not to be the first process but a child of one that reaps what ends and passes signals on,
    /// as with `docker run --init`.
    pub init: bool,
}

impl Container {
    /// A container as a plain `RUN` gets it: root user in `/`, host network, no mounts of its own.
    pub fn new(root: RootSource, args: Vec<String>) -> Container {
        Container {
            root,
            args,
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: None,
            hostname: HOSTNAME.to_owned(),
            extra_hosts: Vec::new(),
            aside: None,
            network: Network::Host,
            security: Security::Sandbox,
            mounts: Vec::new(),
            ulimits: Vec::new(),
            readonly_root: false,
            init: false,
        }
    }

    /// The container without the contents of its files: what may be kept while it runs.
    pub(crate) fn without_contents(mut self) -> Container {
        for mount in &mut self.mounts {
            if let MountKind::File { content, .. } = &mut mount.kind {
                *content = FileContent::default();
            }
        }
        self
    }
}

/// Another command in a container that runs. Its rights and limits are those of the container's own.
#[derive(Clone, Debug)]
pub struct ExecCommand {
    /// The program and its arguments, as [`Container::args`].
    pub args: Vec<String>,
    /// The whole environment, as [`Container::env`].
    pub env: Vec<(String, String)>,
    /// Working directory, absolute. It must be there.
    pub cwd: String,
    /// Its user, as [`Container::user`].
    pub user: Option<String>,
}

/// The streams of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// Standard output and standard error apart.
    Piped {
        /// True if there is an input; otherwise it is `/dev/null`.
        stdin: bool,
    },
    /// A terminal for all three.
    Terminal {
        /// Its size at first.
        size: TerminalSize,
    },
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Characters in a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// The source of the container's `/`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum RootSource {
    /// Layers under a writable directory; [`Overlay::writable`] must be set.
    Overlay(Overlay),
    /// A plain folder, written to directly.
    Directory(PathBuf),
}

/// Layers seen as one tree.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Overlay {
    /// The layers' directories, top first; at most 500. None gives an empty tree.
    pub lowers: Vec<PathBuf>,
    /// The directories for writes; none makes a read-only view.
    pub writable: Option<Writable>,
    /// Marks in `user.overlay.*` instead of `trusted.overlay.*`: in a user namespace.
    pub userxattr: bool,
}

/// The directories for an overlay's writes: two on one file system that supports it (not itself an overlay).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Writable {
    /// Receives the changes, as overlayfs writes them (whiteouts, opaque marks). Best empty: if an earlier run removed
    /// something of the layers below, and this one mounts there, the removal is forgotten.
    pub upper: PathBuf,
    /// Overlayfs's own scratch space, empty. Can be used for further runs with the same upper directory.
    pub work: PathBuf,
}

/// One mount into the container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container, resolved inside its root; created where it is missing.
    pub target: String,
    /// The source.
    pub kind: MountKind,
}

/// The source of a mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MountKind {
    /// A folder, file or socket of the host.
    Bind {
        /// Path on the host, believed.
        source: PathBuf,
        /// Path below `source`, resolved inside it; empty for all of it.
        subpath: String,
        /// True if the container may not write to it.
        readonly: bool,
    },
    /// A tree made of layers.
    Overlay {
        /// The layers. With [`Overlay::writable`] the container's writes go there, else none are possible.
        overlay: Overlay,
        /// Path in the tree, resolved inside it; empty for all of it.
        subpath: String,
        /// True if the container may not write to it.
        readonly: bool,
    },
    /// A tree in memory.
    Tmpfs {
        /// Most bytes it may hold; none is the kernel's default (half of the memory).
        size: Option<u64>,
        /// True if the container may not write to it.
        readonly: bool,
    },
    /// A read-only file in memory with this content: a secret.
    File {
        /// The bytes.
        content: FileContent,
        /// Permission bits.
        mode: u32,
        /// Owner, in the container.
        uid: u32,
        /// Group, in the container.
        gid: u32,
    },
}

/// Bytes that are not to be shown: travels to the container through a socket only, and prints as its length.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FileContent(Vec<u8>);

impl FileContent {
    /// Takes the bytes.
    pub fn new(bytes: Vec<u8>) -> FileContent {
        FileContent(bytes)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for FileContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileContent({} bytes)", self.0.len())
    }
}

/// The content itself follows the orders as a raw blob: only its place is in them.
impl Serialize for FileContent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for FileContent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<FileContent, D::Error> {
        <()>::deserialize(deserializer).map(|()| FileContent::default())
    }
}

/// The network of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The caller's.
    Host,
    /// Its own, with a loopback interface alone.
    None,
}

/// The rights of a container's root user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Security {
    /// Docker's and BuildKit's 14 default capabilities, no host devices, kernel files masked or read-only.
    Sandbox,
    /// Every capability that the caller has, host devices, `/sys` and `/proc` writable: as `RUN --security=insecure`.
    Insecure,
}

/// One resource limit, named as `docker build --ulimit` names it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc`, `core`, …
    pub name: String,
    /// Soft limit; −1 is unlimited.
    pub soft: i64,
    /// Hard limit; −1 is unlimited.
    pub hard: i64,
}

/// A stream of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
