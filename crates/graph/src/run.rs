//! A command in a container. The fields are those of BuildKit's `ExecOp` that are part of its cache
//! key (`solver/llbsolver/ops/exec.go`).

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
    /// The network.
    pub network: Network,
    /// The security mode.
    pub security: Security,
    /// Secrets in its environment.
    pub secret_env: Vec<SecretEnv>,
    /// Mounts in BuildKit's order (`client/llb/exec.go`): the root first, the others sorted by
    /// target, then secrets, then ssh.
    pub mounts: Vec<Mount>,
    /// Proxy settings: in the environment of the process, never in the key.
    pub proxy: ProxyEnv,
}

/// A RUN's network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Network {
    /// The default network: in kiln, the host's.
    #[default]
    Default,
    /// Explicitly the host's (an entitlement in BuildKit).
    Host,
    /// Loopback only.
    None,
}

/// A RUN's security mode.
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
    /// The limit's name, as `nofile`.
    pub name: String,
    /// Soft limit; -1 is unlimited.
    pub soft: i64,
    /// Hard limit; -1 is unlimited.
    pub hard: i64,
}

/// A secret as an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretEnv {
    /// The secret's id.
    pub id: String,
    /// Name of the variable.
    pub name: String,
    /// True if the step runs without it.
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
    /// The step's input that is mounted; none for an empty or virtual one.
    pub input: Option<usize>,
    /// Path in the input that is mounted; `/` is all.
    pub selector: String,
    /// True if it is read-only.
    pub readonly: bool,
    /// True if the changes become the step's output; only for the root.
    pub output: bool,
    /// The kind of mount.
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
        /// The policy for simultaneous use.
        sharing: Sharing,
    },
    /// Memory.
    Tmpfs {
        /// Limit in bytes; 0 is none.
        size: i64,
    },
    /// A secret as a file.
    Secret {
        /// The secret's id.
        id: String,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Permission bits.
        mode: u32,
        /// True if the step runs without it.
        optional: bool,
    },
    /// A socket of an ssh agent.
    Ssh {
        /// The agent's id.
        id: String,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Permission bits.
        mode: u32,
        /// True if the step runs without it.
        optional: bool,
    },
}

/// A cache mount's policy for simultaneous use.
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
