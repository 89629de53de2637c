//! A build as an observable process, with its output.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fixtures::Kiln;
use tempfile::TempDir;

use super::Fault;
use super::processes::wait_for;
use super::project::{self, Listing};

/// Maximum duration of a build on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// The folder, binary and registry that all works share.
pub struct World {
    /// The folder of all files.
    pub place: TempDir,
    pub binary: PathBuf,
    /// The host of a registry that has the base image.
    pub host: String,
    /// The files of each version of the project, from undisturbed builds.
    pub expected: Vec<Listing>,
}

/// A version of the project, and how much of it is cached.
#[derive(Clone, Debug)]
pub struct Build {
    pub version: u64,
    /// The build argument that makes steps uncached.
    pub salt: u64,
    /// The cache's tag.
    pub cache: String,
}

/// A build that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub log: String,
    pub time: Duration,
}

/// A build that is running.
pub struct Running {
    child: Child,
    log: PathBuf,
    started: Instant,
}

impl World {
    /// Builds each version once, undisturbed.
    pub fn new(binary: &Path, host: &str) -> Result<Self, Fault> {
        let place = tempfile::Builder::new().prefix("kiln-torture-").tempdir();
        let place = place.context("a temporary folder")?;
        let mut world =
            Self { place, binary: binary.to_owned(), host: host.to_owned(), expected: Vec::new() };
        let kiln = Kiln::new(binary);
        for version in 0..project::VERSIONS {
            let context = world.context("clean", version)?;
            let archive = world.place.path().join("clean.tar");
            let mut command =
                kiln.command(["build", "--progress=plain", "--no-cache", "--build-arg=SALT=clean"]);
            command.arg(output(&archive)).arg(context);
            let ended =
                Running::start(&mut command, &world.place.path().join("clean.log"))?.finish()?;
            if ended.code != Some(0) {
                return Err(Fault::Lie(format!("a build in peace failed\n{}", ended.log)));
            }
            world.expected.push(project::listing(&archive)?);
        }
        Ok(world)
    }

    /// Writes the context of a version, marked for a work.
    pub fn context(&self, mark: &str, version: u64) -> Result<PathBuf, Fault> {
        let folder = self.context_path(mark, version);
        project::write(&folder, &self.host, &self.mark(mark), version)?;
        Ok(folder)
    }

    /// The folder of an existing context: a concurrent build must not read a half-written file.
    pub fn context_path(&self, mark: &str, version: u64) -> PathBuf {
        self.place.path().join(format!("context-{mark}-{version}"))
    }

    /// A mark that no other torture on this machine uses.
    pub fn mark(&self, work: &str) -> String {
        let name = self.place.path().file_name().unwrap_or_default().display();
        format!("{name}-{work}")
    }

    /// Compares an archive with a version of the project. Any difference is a [`Fault::Lie`].
    pub fn compare(&self, archive: &Path, version: u64) -> Result<(), Fault> {
        let found = project::listing(archive)?;
        match project::difference(&found, &self.expected[version as usize]) {
            None => Ok(()),
            Some(difference) => Err(Fault::Lie(format!("other files:\n  {difference}"))),
        }
    }
}

impl Build {
    /// The arguments of the build, with these paths of its context and archive.
    pub fn arguments(&self, host: &str, context: &Path, archive: &Path) -> Vec<String> {
        let cache = format!("type=registry,ref={host}/torture:{}", self.cache);
        vec![
            "build".into(),
            "--progress=plain".into(),
            format!("--build-arg=SALT={}", self.salt),
            format!("--cache-from={cache}"),
            format!("--cache-to={cache},mode=max"),
            output(archive),
            context.display().to_string(),
        ]
    }
}

pub fn output(archive: &Path) -> String {
    format!("--output=type=tar,dest={}", archive.display())
}

impl Running {
    pub fn start(command: &mut Command, log: &Path) -> Result<Self, Fault> {
        let file = File::create(log).context("a log")?;
        let other = file.try_clone().context("a log")?;
        command.stdin(Stdio::null()).stdout(file).stderr(other);
        let child = command.spawn().context("starting a build")?;
        Ok(Self { child, log: log.to_owned(), started: Instant::now() })
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end. A timeout is a [`Fault::Lie`].
    pub fn finish(mut self) -> Result<Ended, Fault> {
        let ended = wait_for(PATIENCE, || self.child.try_wait().transpose());
        let log = || {
            let bytes = std::fs::read(&self.log).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let Some(status) = ended else {
            drop(self.child.kill());
            drop(self.child.wait());
            return Err(Fault::Lie(format!("it did not end in {PATIENCE:?}\n{}", log())));
        };
        let status = status.context("waiting for a build")?;
        Ok(Ended { code: status.code(), log: log(), time: self.started.elapsed() })
    }
}

impl Ended {
    /// Checks that it succeeded.
    pub fn expect_ok(&self, what: &str) -> Result<(), Fault> {
        match self.code {
            Some(0) => Ok(()),
            code => Err(Fault::Lie(format!("{what}: exit code {code:?}\n{}", self.log))),
        }
    }

    /// Checks that it was refused without a panic, with one of these words as the reason.
    pub fn expect_refused(&self, words: &[&str]) -> Result<(), Fault> {
        let log = self.log.to_lowercase();
        let panicked = self.log.contains("panicked at");
        if self.code == Some(1) && !panicked && words.iter().any(|word| log.contains(word)) {
            return Ok(());
        }
        let code = self.code;
        Err(Fault::Lie(format!("no sentence about it (exit code {code:?})\n{}", self.log)))
    }
}
