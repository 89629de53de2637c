//! A command in a container. The fields are those of BuildKit's `ExecOp` that its cache key has
//! (interop reference, 2.3), so that a key can be made of them.

/// A RUN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOp {
    /// The command and its arguments.
    pub args: Vec<String>,
    /// The whole environment, in order.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: String,
    /// `user[:group]`, by name or number; empty is root.
    pub user: String,
    /// Host name; empty is the default, which is no part of the key.
    pub hostname: String,
    /// Names and addresses for `/etc/hosts`; only the names are part of the key.
    pub extra_hosts: Vec<(String, String)>,
    /// Limits.
    pub ulimits: Vec<Ulimit>,
    /// Parent control group; empty is the default.
    pub cgroup_parent: String,
    /// What network it sees.
    pub network: Network,
    /// What it may do.
    pub security: Security,
    /// Secrets in its environment.
    pub secret_env: Vec<SecretEnv>,
    /// Mounts in BuildKit's order (`client/llb/exec.go`): the root first, the others sorted by
    /// target, then secrets, then ssh.
    pub mounts: Vec<Mount>,
    /// Proxy settings: in the environment of the process, never in the key.
    pub proxy: ProxyEnv,
}

/// What network a RUN sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Network {
    /// What builds get unless they ask: with kiln, the network of the host.
    #[default]
    Default,
    /// Explicitly the host's (an entitlement in BuildKit).
    Host,
    /// Loopback only.
    None,
}

/// What a RUN may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Security {
    /// Docker's default capabilities.
    #[default]
    Sandbox,
    /// All capabilities (an entitlement).
    Insecure,
}

/// A resource limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// As `nofile`.
    pub name: String,
    /// Soft limit; -1 is unlimited.
    pub soft: i64,
    /// Hard limit; -1 is unlimited.
    pub hard: i64,
}

/// A secret as an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretEnv {
    /// Which secret.
    pub id: String,
    /// Name of the variable.
    pub name: String,
    /// Whether the step runs without it.
    pub optional: bool,
}

/// Proxy settings of the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyEnv {
    /// `HTTP_PROXY`.
    pub http: String,
    /// `HTTPS_PROXY`.
    pub https: String,
    /// `FTP_PROXY`.
    pub ftp: String,
    /// `NO_PROXY`.
    pub no: String,
    /// `ALL_PROXY`.
    pub all: String,
}

/// Something mounted while a command runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path in the container; `/` is the root file system.
    pub target: String,
    /// Which input of the step is mounted; none for an empty or virtual one.
    pub input: Option<usize>,
    /// Path in the input that is mounted; `/` is all.
    pub selector: String,
    /// Whether it cannot be written.
    pub readonly: bool,
    /// Whether what was written becomes the step's output; true for the root alone.
    pub output: bool,
    /// What kind.
    pub kind: MountKind,
}

/// Kinds of mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// The files of an input.
    Bind,
    /// A folder that outlives builds.
    Cache {
        /// Its name, with BuildKit's namespace (`<namespace>/<id>`).
        id: String,
        /// Who may use it at the same time.
        sharing: Sharing,
    },
    /// Memory.
    Tmpfs {
        /// Limit in bytes; 0 is none.
        size: i64,
    },
    /// A secret as a file.
    Secret {
        /// Which secret.
        id: String,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Permission bits.
        mode: u32,
        /// Whether the step runs without it.
        optional: bool,
    },
    /// A socket of an ssh agent.
    Ssh {
        /// Which agent.
        id: String,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Permission bits.
        mode: u32,
        /// Whether the step runs without it.
        optional: bool,
    },
}

/// Who may use a cache mount at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// All.
    #[default]
    Shared,
    /// One; others get a new one.
    Private,
    /// One; others wait.
    Locked,
}
