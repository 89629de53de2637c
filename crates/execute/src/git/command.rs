//! The `git` of the system.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use graph::GitSource;
use oci::shown_text;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::remote::{GitRemote, failed};
use crate::Error;
use crate::source_fetcher::SourceFetcher;
use crate::ssh::{Forward, SocketOwner, SshAgent, own_ids};

/// Attempts after passing faults of a server.
const MOST_ATTEMPTS: u32 = 4;
/// The pause before the second attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Most that is read of what git prints, in bytes.
const MOST_SAID: u64 = 4 << 20;
/// Most of its complaints that is shown, in characters.
const MOST_SHOWN: usize = 800;

/// Variables of the caller's environment that would change git's behaviour.
const UNWANTED: [&str; 27] = [
    "GIT_ALLOW_PROTOCOL",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ASKPASS",
    "GIT_ATTR_SOURCE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_SYSTEM",
    "GIT_DEFAULT_HASH",
    "GIT_EXEC_PATH",
    "GIT_EXTERNAL_DIFF",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_PROTOCOL_FROM_USER",
    "GIT_PROXY_COMMAND",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_SSH",
    "GIT_SSL_NO_VERIFY",
    "GIT_TRACE",
    "GIT_TRACE_CURL",
    "SSH_ASKPASS",
];

/// Settings for each run. Transports that could run something are not named, so they are refused;
/// folders are only for the caller, not for a repository's submodules.
const SETTINGS: [(&str, &str); 15] = [
    ("protocol.allow", "never"),
    ("protocol.http.allow", "always"),
    ("protocol.https.allow", "always"),
    ("protocol.git.allow", "always"),
    ("protocol.ssh.allow", "always"),
    ("protocol.file.allow", "user"),
    // A server that says nothing for ten minutes is gone.
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "600"),
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("credential.helper", ""),
    ("safe.directory", "*"),
    ("fetch.recurseSubmodules", "false"),
    ("gc.auto", "0"),
    ("advice.detachedHead", "false"),
];

/// The ssh command, run by a shell. A host key must match the caller's known hosts, if there are
/// any; a new one is accepted, as in BuildKit, and not saved.
const SSH: &str = "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new \
    -o ConnectTimeout=60 -o ServerAliveInterval=60 -o \"UserKnownHostsFile=$KILN_KNOWN_HOSTS\"";

/// Files of known hosts as ssh reads them; it adds what is new to the first.
fn known_hosts(file: Option<&Path>) -> String {
    let file = file.and_then(Path::to_str).filter(|file| !file.contains(['"', '\n', '$']));
    match file {
        Some(file) => format!("/dev/null \"{}\"", file.replace('%', "%%")),
        None => "/dev/null".into(),
    }
}

/// The agent that ssh asks: the caller's own socket, or one that answers for his keys.
enum Agent {
    Socket(PathBuf),
    Keys(Forward),
}

impl Agent {
    async fn of(fetcher: &SourceFetcher<'_>) -> Result<Self, Error> {
        let id = || "default".to_owned();
        match fetcher.credentials.agent("default").await? {
            None => Err(Error::NoAgent { id: id() }),
            Some(SshAgent::Socket(path)) => Ok(Self::Socket(path)),
            Some(agent @ (SshAgent::Keys(_) | SshAgent::Client(_))) => {
                let (uid, gid) = own_ids();
                let owner = SocketOwner { uid, gid, mode: 0o600 };
                Forward::start(&agent, fetcher.transfer.store(), owner)
                    .map(Self::Keys)
                    .map_err(|source| Error::Agent { id: id(), source })
            }
        }
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Socket(path) => path.clone(),
            Self::Keys(forward) => forward.short_path(),
        }
    }
}

/// A repository, and how git is run in it.
pub(super) struct Git {
    folder: PathBuf,
    work_tree: Option<PathBuf>,
    source: GitSource,
    remote: GitRemote,
    agent: Option<Agent>,
    /// Host keys that the caller knows.
    known_hosts: Option<PathBuf>,
}

impl Git {
    /// A repository in `folder`, with the caller's credentials.
    pub(super) async fn new(
        fetcher: &SourceFetcher<'_>,
        source: &GitSource,
        remote: &GitRemote,
        folder: &Path,
    ) -> Result<Self, Error> {
        let is_web = source.remote.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("http"));
        let agent = match is_web || source.remote.starts_with("git://") {
            true => None,
            false => Some(Agent::of(fetcher).await?),
        };
        Ok(Self {
            folder: folder.into(),
            work_tree: None,
            source: source.clone(),
            remote: remote.clone(),
            agent,
            known_hosts: fetcher.credentials.known_hosts.clone(),
        })
    }

    /// The same repository with files in `work_tree`, which is made.
    pub(super) fn with_work_tree(mut self, work_tree: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(work_tree).map_err(|error| self.failed(error.to_string()))?;
        self.work_tree = Some(work_tree.into());
        Ok(self)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn failed(&self, reason: String) -> Error {
        failed(&self.source, reason)
    }

    pub(super) fn shown_remote(&self) -> String {
        shown_text(&self.source.remote)
    }

    /// Makes the repository; `digits` is the length of its objects' names.
    pub(super) async fn init(&self, bare: bool, digits: usize) -> Result<(), Error> {
        let mut args = vec!["init", "--quiet", "--template=", "--initial-branch=master"];
        if bare {
            args.push("--bare");
        }
        if digits == 64 {
            args.push("--object-format=sha256");
        }
        self.run(&args).await?;
        if !bare {
            // In the file: submodules have their own, and relative addresses start from this one.
            self.append_origin().map_err(|error| self.failed(error.to_string()))?;
        }
        Ok(())
    }

    fn append_origin(&self) -> io::Result<()> {
        use std::io::Write as _;
        let quoted = self.remote.address.replace('\\', "\\\\").replace('"', "\\\"");
        if quoted.contains(['\n', '\0']) {
            return Err(io::Error::other("the address has characters that none has"));
        }
        let mut config = std::fs::File::options().append(true).open(self.folder.join("config"))?;
        writeln!(config, "[remote \"origin\"]\n\turl = \"{quoted}\"")
    }

    /// The name of the branch that the server's HEAD is.
    pub(super) async fn default_branch(&self) -> Result<String, Error> {
        // Of a server of plain files, git does not tell that it did not get the name.
        for _ in 1..MOST_ATTEMPTS {
            let said = self.ask(&["ls-remote", "--symref", "--", "source", "HEAD"]).await?;
            let branch = said.lines().find_map(|line| line.strip_prefix("ref: refs/heads/"));
            let branch = branch.and_then(|line| line.split_whitespace().next());
            if let Some(branch) = branch.filter(|branch| !branch.starts_with('-')) {
                return Ok(branch.into());
            }
        }
        Err(self.failed("could not find default branch for repository".into()))
    }

    /// Objects and names that the server has for a reference.
    pub(super) async fn list(&self, reference: &str) -> Result<Vec<(String, String)>, Error> {
        let peeled = format!("{reference}^{{}}");
        let said = self.ask(&["ls-remote", "--", "source", reference, &peeled]).await?;
        let pair = |line: &str| {
            let (object, name) = line.split_once('\t')?;
            Some((object.to_owned(), name.to_owned()))
        };
        Ok(said.lines().filter_map(pair).collect())
    }

    /// True if the repository has an object and everything that a checkout of it needs.
    pub(super) async fn has(&self, object: &str) -> bool {
        self.ask(&["cat-file", "-e", &format!("{object}^{{commit}}")]).await.is_ok()
    }

    /// When an object's commit was committed, in seconds since 1970.
    pub(super) async fn commit_time(&self, object: &str) -> Result<i64, Error> {
        let commit = format!("{object}^{{commit}}");
        let said = self.ask(&["log", "-1", "--no-show-signature", "--format=%ct", &commit]).await?;
        said.trim().parse().map_err(|_| self.failed(format!("commit {object} has no time")))
    }

    /// Fetches from the source: `newest`, without what came before.
    pub(super) async fn fetch(&self, specs: &[&str], newest: bool) -> Result<(), Error> {
        let mut args = vec!["fetch", "--quiet", "--no-tags", "--force"];
        if newest {
            args.push("--depth=1");
        } else if self.folder.join("shallow").exists() {
            args.push("--unshallow");
        }
        let tail: Vec<&str> = ["--", "source"].into_iter().chain(specs.iter().copied()).collect();
        let all: Vec<&str> = args.iter().chain(&tail).copied().collect();
        match self.run(&all).await {
            // Servers of plain files give no part of a history.
            Err(Error::Git { reason, .. })
                if newest && (reason.contains("shallow") || reason.contains("--depth")) =>
            {
                args.pop();
                let all: Vec<&str> = args.iter().chain(&tail).copied().collect();
                self.run(&all).await
            }
            result => result,
        }
    }

    /// Fetches from another repository of this machine.
    pub(super) async fn fetch_from_folder(&self, folder: &Path, spec: &str) -> Result<(), Error> {
        let address = format!("file://{}", folder.display());
        self.run(&["fetch", "--quiet", "--no-tags", "-u", "--depth=1", "--", &address, spec]).await
    }

    /// Runs git for what it does.
    pub(super) async fn run(&self, args: &[&str]) -> Result<(), Error> {
        self.ask(args).await.map(drop)
    }

    /// Runs git for what it prints. What a server could do the next time is asked for again.
    async fn ask(&self, args: &[&str]) -> Result<String, Error> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..MOST_ATTEMPTS {
            match self.ask_once(args).await {
                Err(Error::Git { reason, .. }) if is_passing(&reason) => {}
                done => return done,
            }
            tokio::time::sleep(pause).await;
            pause *= 4;
        }
        self.ask_once(args).await
    }

    async fn ask_once(&self, args: &[&str]) -> Result<String, Error> {
        let mut command = self.command();
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.failed(
                "`git` is needed for it and is not installed here; install it, or give the \
                     files as a folder or an archive"
                    .into(),
            ),
            _ => self.failed(format!("`git` cannot be started: {error}")),
        })?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (out, err) = tokio::join!(read(out), read(err));
        let status = child.wait().await.map_err(|error| self.failed(error.to_string()))?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&out).into_owned());
        }
        let said = self.clean(&String::from_utf8_lossy(&err));
        if said.contains("ssh: not found") || said.contains("cannot run ssh") {
            let reason = "`ssh` is needed for it and is not installed here; install it \
                (openssh-client), or give an https:// address";
            return Err(self.failed(reason.into()));
        }
        let what = args.first().copied().unwrap_or_default();
        let hint = self.hint(&said);
        Err(self.failed(format!("git {what}: {said}{hint}")))
    }

    /// A hint about credentials for a failure.
    fn hint(&self, said: &str) -> String {
        match &self.remote.moved_to {
            Some(to) => format!(
                "; it redirects to `{to}`, which is not told the credentials for another address: \
                 give that address"
            ),
            None if said.contains("returned error: 30") => {
                "; redirects are not followed with credentials: give the address that it leads to"
                    .into()
            }
            None => String::new(),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        for name in UNWANTED {
            command.env_remove(name);
        }
        let here = self.work_tree.as_deref().filter(|_| self.folder.exists());
        let here = here.unwrap_or_else(|| existing(&self.folder));
        command
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .current_dir(here)
            .env("GIT_DIR", &self.folder)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("HOME", "/dev/null")
            .env("XDG_CONFIG_HOME", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_TEMPLATE_DIR", "")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("LC_ALL", "C")
            .env_remove("SSH_AUTH_SOCK")
            .env("GIT_SSH_COMMAND", SSH)
            .env("KILN_KNOWN_HOSTS", known_hosts(self.known_hosts.as_deref()));
        match &self.work_tree {
            Some(work_tree) => command.env("GIT_WORK_TREE", work_tree),
            None => command.env_remove("GIT_WORK_TREE"),
        };
        if let Some(agent) = &self.agent {
            command.env("SSH_AUTH_SOCK", agent.path());
        }
        let source = [("remote.source.url".to_owned(), self.remote.address.clone())];
        let fixed = SETTINGS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        // By environment: arguments can be seen by every process.
        let settings: Vec<_> = fixed.chain(source).chain(self.remote.settings()).collect();
        command.env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (index, (key, value)) in settings.into_iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{index}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        command
    }

    /// git's output, without secrets and terminal controls.
    fn clean(&self, said: &str) -> String {
        let mut said = said.to_owned();
        for secret in self.remote.login.iter().flat_map(|login| &login.secrets) {
            if !secret.reveal().is_empty() {
                said = said.replace(secret.reveal(), "[secret]");
            }
        }
        let said = shown_text(&said);
        // ssh puts `@` around a heading.
        let lines = said.lines().map(|line| line.trim().trim_matches('@').trim());
        let lines = lines.filter(|line| !line.is_empty());
        let joined = lines.collect::<Vec<_>>().join("; ");
        joined.chars().filter(|char| !char.is_control()).take(MOST_SHOWN).collect()
    }
}

/// True if git's output describes a fault that another attempt may get past.
fn is_passing(said: &str) -> bool {
    let status = said.split("returned error: ").nth(1).and_then(|rest| rest.get(..3));
    let status = status.and_then(|digits| digits.parse::<u16>().ok());
    let broken = [
        "Connection reset",
        "Empty reply from server",
        "early EOF",
        "unexpected disconnect",
        "the remote end hung up",
        "transfer closed with",
        "bytes missing",
        "Recv failure",
    ];
    match status {
        Some(status) => status == 429 || (500..600).contains(&status) && status != 501,
        None => broken.iter().any(|word| said.contains(word)),
    }
}

/// The folder, or the nearest above it that is there.
fn existing(folder: &Path) -> &Path {
    folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"))
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // A truncated or unreadable output shows in git's exit code.
        let _ = pipe.take(MOST_SAID).read_to_end(&mut bytes).await;
    }
    bytes
}
