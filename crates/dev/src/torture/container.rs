//! Builds in plain containers of a separate daemon, as in a CI job without privileges.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use fixtures::{Dockerd, Kiln, ci_image, dockerd};

use super::build::{Build, Running, World};
use super::kill::{Ground as Killing, Victims};
use super::processes::{self, MARK, Process, wait_for};
use super::project::VERSIONS;
use super::{Fault, Report};

/// kiln's own image with many more files, as Debian has them: on an overlay each of them is moved on its own.
const IMAGE: &str = "registry.example.com/kiln:many";
const MANY: &str = "for folder in lib usr/lib usr/share root; do mkdir -p /$folder/many; \
     for i in $(seq 400); do echo $folder $i >/$folder/many/$i; done; done; chmod 710 /root; mkdir -p /var/lib/kiln; mkdir -m 1777 /tmp/mine";
/// kiln's root in the container.
const ROOT: &str = "var/lib/kiln";
/// Maximum time until a container's files are restored, if a process is left that restores them.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon with the image.
pub struct Daemon(Dockerd);

impl Daemon {
    pub fn start(world: &World) -> Result<Self, Fault> {
        // overlay2 is the usual driver of runners. With the fallback, whole folders are moved at once.
        let overlay = ["--storage-driver".to_owned(), "overlay2".to_owned()].into();
        let options = dockerd::Options { args: overlay, ..Default::default() };
        let daemon =
            Dockerd::start(&options).or_else(|_| Dockerd::start(&dockerd::Options::default()))?;
        let place = world.place.path().join("image");
        let archive = ci_image::archive(&Kiln::new(&world.binary), "ci", &place)?;
        let daemon = Self(daemon);
        daemon.docker(&["load", "--input", &archive.display().to_string()])?;
        let made = ["run", "--name=many", "registry.example.com/kiln:ci", "sh", "-euc", MANY];
        daemon.docker(&made)?;
        daemon.docker(&["commit", "many", IMAGE])?;
        Ok(daemon)
    }

    fn docker(&self, args: &[&str]) -> Result<String, Fault> {
        let run = self.0.docker(args);
        if !run.ok() {
            return Err(Fault::Trouble(anyhow!("docker {args:?}: {}", run.stderr)));
        }
        Ok(run.stdout.trim().to_owned())
    }
}

/// A running container.
pub struct Ground<'a> {
    world: &'a World,
    daemon: Rc<Daemon>,
    name: &'static str,
    /// Its first process.
    first: i32,
    mark: String,
    out: PathBuf,
    /// The files of the container itself.
    own: BTreeMap<PathBuf, String>,
}

impl<'a> Ground<'a> {
    pub fn new(world: &'a World, daemon: Rc<Daemon>, name: &'static str) -> Result<Self, Fault> {
        for version in 0..VERSIONS {
            world.context(name, version)?;
        }
        let out = world.place.path().join(format!("out-{name}"));
        std::fs::create_dir(&out).context("a folder")?;
        let volumes = [
            format!("--volume={}:{0}:ro", world.place.path().display()),
            format!("--volume={}:/out", out.display()),
        ];
        let named = format!("--name={name}");
        let mut args = vec!["run", "--detach", "--network=host", &named];
        args.extend(volumes.iter().map(String::as_str));
        args.extend([IMAGE, "sh", "-c", "while :; do sleep 1000; done"]);
        daemon.docker(&args)?;
        let first = daemon.docker(&["inspect", "--format={{.State.Pid}}", name])?;
        let first = first.parse().with_context(|| format!("`{first}` is no process"))?;
        let mark = world.mark(name);
        let mut ground = Self { world, daemon, name, first, mark, out, own: BTreeMap::new() };
        ground.own = files(&ground.top());
        Ok(ground)
    }

    /// The container's root, as the host sees it.
    fn top(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.first))
    }

    fn is_in_place(&self) -> bool {
        self.name == "in-place"
    }

    /// True if a job's shell works.
    fn has_a_shell(&self) -> bool {
        let mut shell =
            self.daemon.0.command(&["exec", self.name, "/bin/sh", "-c", "ls /tmp >/dev/null"]);
        shell
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    fn expect_own_files(&self, when: &str) -> Result<(), Fault> {
        let found = files(&self.top());
        let paths = found.keys().chain(self.own.keys());
        let other: Vec<_> = paths
            .filter(|path| found.get(*path) != self.own.get(*path))
            .map(|path| (path, found.get(path), self.own.get(path)))
            .take(5)
            .collect();
        if other.is_empty() {
            return Ok(());
        }
        Err(Fault::Lie(format!("{when}: the container's own files are others: {other:#?}")))
    }
}

impl Drop for Ground<'_> {
    fn drop(&mut self) {
        drop(self.daemon.docker(&["rm", "--force", self.name]));
    }
}

/// All files of a container except kiln's and the kernel's, with their metadata.
fn files(top: &Path) -> BTreeMap<PathBuf, String> {
    let left_out =
        ["proc", "sys", "dev", "out", "run", "tmp/home", ROOT].map(|name| top.join(name));
    let mut found = BTreeMap::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else { continue };
            // A volume is not part of the container's own files.
            if left_out.contains(&path)
                || path.starts_with(top.join("tmp"))
                    && metadata.is_dir()
                    && path.display().to_string().contains("kiln-torture-")
            {
                continue;
            }
            let size = if metadata.is_file() { metadata.len() } else { 0 };
            let time = if metadata.is_file() { metadata.mtime() } else { 0 };
            let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
            found.insert(
                path.strip_prefix(top).unwrap_or(&path).to_owned(),
                format!("{mode:o} {uid}:{gid} {size} {time}"),
            );
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

impl Killing for Ground<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn start(&mut self, build: &Build) -> Result<Running, Fault> {
        let context = self.world.context(self.name, build.version)?;
        let arguments = build.arguments(&self.world.host, &context, Path::new("/out/out.tar"));
        let isolation = if self.is_in_place() { "in-place" } else { "chroot" };
        let variables = [
            format!("--env={MARK}={}", self.mark),
            format!("--env=KILN_ISOLATION={isolation}"),
            format!("--env=KILN_ROOT=/{ROOT}"),
            "--env=KILN_CONTAINER_IS_MINE=1".into(),
            "--env=HOME=/tmp/home".into(),
        ];
        let mut args: Vec<&str> = vec!["exec"];
        args.extend(variables.iter().map(String::as_str));
        args.extend([self.name, "/usr/local/bin/kiln"]);
        args.extend(arguments.iter().map(String::as_str));
        let mut command: Command = self.daemon.0.command(&args);
        Running::start(&mut command, &self.out.join("log"))
    }

    fn kiln(&self, _: &Running) -> Option<Process> {
        processes::inside(self.first)
            .into_iter()
            .find(|process| process.arguments.starts_with("/usr/local/bin/kiln build"))
    }

    fn forget(&mut self) -> Result<(), Fault> {
        let root = self.root();
        match std::fs::remove_dir_all(&root) {
            Err(error) if root.exists() => {
                Err(Fault::Lie(format!("the root cannot be removed: {error}")))
            }
            _ => Ok(()),
        }
    }

    fn root(&self) -> PathBuf {
        self.top().join(ROOT)
    }

    fn archive(&self) -> PathBuf {
        self.out.join("out.tar")
    }

    fn strays(&self) -> Vec<Process> {
        let own = |process: &Process| {
            process.arguments.starts_with("sleep 1000") || process.arguments.is_empty()
        };
        processes::inside(self.first).into_iter().filter(|process| !own(process)).collect()
    }

    /// Waits until the remaining kiln process restores the container's files.
    fn settle(&mut self, _: Victims, report: &Report) -> Result<(), Fault> {
        if !self.is_in_place() {
            return Ok(());
        }
        let started = Instant::now();
        if wait_for(PATIENCE, || self.has_a_shell().then_some(())).is_none() {
            return Err(Fault::Lie("the container has no shell".into()));
        }
        report.took("until a container has its shell again", started.elapsed());
        let when = "after the kill";
        wait_for(PATIENCE, || self.expect_own_files(when).ok())
            .map_or_else(|| self.expect_own_files(when), Ok)
    }

    fn check(&self) -> Result<(), Fault> {
        self.expect_own_files("after the same build again")
    }
}
