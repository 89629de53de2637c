//! kiln and the builders of this machine, each with its own state, which is empty for every run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use fixtures::Kiln;
use tempfile::TempDir;

use crate::tools;

/// A builder.
pub trait Tool {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Empties its state, and starts its daemon if it has one.
    fn start(&mut self) -> Result<()>;
    /// Commands that build a context, push it as `HOST/app:latest`, and use a cache in the registry.
    fn commands(&self, host: &str, context: &Path) -> Vec<Command>;
    /// Its daemon's processes.
    fn daemons(&self) -> Vec<u32>;
    /// Stops its daemon.
    fn stop(&mut self);
}

/// kiln and the installed peers, which need root.
pub fn installed(kiln: PathBuf) -> Result<Vec<Box<dyn Tool>>> {
    let mut tools: Vec<Box<dyn Tool>> = vec![Box::new(KilnTool(Kiln::new(kiln)))];
    if !fixtures::is_root() {
        println!("only root can start the others");
        return Ok(tools);
    }
    if let Some(folder) = std::env::var_os("KILN_BENCH_BUILDKITD").map(PathBuf::from) {
        for name in ["buildkitd", "buildctl"] {
            if !folder.join(name).is_file() {
                bail!("KILN_BENCH_BUILDKITD: there is no `{name}` in `{}`", folder.display());
            }
        }
        tools.push(Box::new(Buildkit { programs: folder, daemon: None }));
    }
    if let (true, Some(client)) = (fixtures::program("dockerd").is_some(), docker_client()) {
        tools.push(Box::new(Docker { client, daemon: None }));
    }
    if fixtures::program("buildah").is_some() {
        tools.push(Box::new(Buildah { state: None }));
    }
    Ok(tools)
}

/// A docker client that can build with BuildKit. Newer ones need the buildx plugin.
fn docker_client() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let can_build = |client: &PathBuf| {
        let said = |args: &[&str]| Command::new(client).args(args).output();
        said(&["buildx", "version"]).is_ok_and(|output| output.status.success())
            || said(&["--version"]).is_ok_and(|output| {
                let version = String::from_utf8_lossy(&output.stdout).into_owned();
                ["version 18.", "version 19.", "version 20."]
                    .iter()
                    .any(|old| version.contains(old))
            })
    };
    std::env::split_paths(&path)
        .map(|folder| folder.join("docker"))
        .find(|file| file.is_file() && can_build(file))
}

struct KilnTool(Kiln);

impl Tool for KilnTool {
    fn name(&self) -> &'static str {
        "kiln"
    }

    fn start(&mut self) -> Result<()> {
        self.0.empty_root();
        Ok(())
    }

    fn commands(&self, host: &str, context: &Path) -> Vec<Command> {
        let cache = format!("type=registry,ref={host}/app:cache");
        let mut command = self.0.command(["build", "--progress=plain", "--push"]);
        command
            .arg(format!("--build-arg=REGISTRY={host}"))
            .arg(format!("--cache-from={cache}"))
            .arg(format!("--cache-to={cache},mode=max"))
            .arg(format!("--tag={host}/app:latest"))
            .arg(context);
        vec![command]
    }

    fn daemons(&self) -> Vec<u32> {
        Vec::new()
    }

    fn stop(&mut self) {}
}

/// A daemon and its folder.
struct Daemon {
    child: Child,
    folder: TempDir,
}

impl Daemon {
    fn start(mut command: Command, folder: TempDir, mut ready: Command) -> Result<Self> {
        let name = tools::describe(&command);
        let doing = || format!("`{name}`");
        let log = std::fs::File::create(folder.path().join("log")).with_context(doing)?;
        let second = log.try_clone().with_context(doing)?;
        let mut child =
            command.stdin(Stdio::null()).stdout(log).stderr(second).spawn().with_context(doing)?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if ready
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
            {
                return Ok(Self { child, folder });
            }
            if child.try_wait().with_context(doing)?.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(child.kill());
        drop(child.wait());
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        let end: Vec<&str> = log.lines().rev().take(5).collect();
        Err(anyhow!("`{name}` does not answer\n  {}", end.join("\n  ")))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // On SIGTERM, a daemon unmounts its mounts.
        let pid = self.child.id().to_string();
        drop(Command::new("kill").args(["-TERM", &pid]).status());
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(self.child.kill());
        drop(self.child.wait());
        unmount_below(self.folder.path());
    }
}

/// Unmounts all mounts that a tool left in its folder, so that the folder can be removed.
fn unmount_below(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for point in points
        .filter(|point| Path::new(point).starts_with(folder))
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        drop(Command::new("umount").args(["-l", point]).stderr(Stdio::null()).status());
    }
}

fn folder(name: &str) -> Result<TempDir> {
    let made = tempfile::Builder::new().prefix(&format!("bench-{name}-")).tempdir();
    made.with_context(|| format!("a folder for {name}"))
}

struct Buildkit {
    programs: PathBuf,
    daemon: Option<Daemon>,
}

impl Buildkit {
    fn client(&self, folder: &Path) -> Command {
        let mut command = Command::new(self.programs.join("buildctl"));
        command.arg("--addr").arg(format!("unix://{}/socket", folder.display()));
        command
    }
}

impl Tool for Buildkit {
    fn name(&self) -> &'static str {
        "buildkit"
    }

    fn start(&mut self) -> Result<()> {
        let folder = folder("buildkit")?;
        let mut daemon = Command::new(self.programs.join("buildkitd"));
        daemon.arg("--addr").arg(format!("unix://{}/socket", folder.path().display()));
        daemon.arg("--root").arg(folder.path().join("root"));
        daemon.args([
            "--oci-worker-net",
            "host",
            "--oci-worker-snapshotter",
            "overlayfs",
            "--containerd-worker=false",
        ]);
        let mut ready = self.client(folder.path());
        ready.args(["debug", "workers"]);
        self.daemon = Some(Daemon::start(daemon, folder, ready)?);
        Ok(())
    }

    fn commands(&self, host: &str, context: &Path) -> Vec<Command> {
        let Some(daemon) = &self.daemon else { return Vec::new() };
        let mut command = self.client(daemon.folder.path());
        let cache = format!("type=registry,ref={host}/app:cache");
        command.args(["build", "--frontend", "dockerfile.v0", "--progress", "plain"]);
        command.arg("--local").arg(format!("context={}", context.display()));
        command.arg("--local").arg(format!("dockerfile={}", context.display()));
        command.args(["--opt", &format!("build-arg:REGISTRY={host}")]);
        command.args(["--output", &format!("type=image,name={host}/app:latest,push=true")]);
        command.args(["--import-cache", &cache, "--export-cache", &format!("{cache},mode=max")]);
        vec![command]
    }

    fn daemons(&self) -> Vec<u32> {
        self.daemon.iter().map(|daemon| daemon.child.id()).collect()
    }

    fn stop(&mut self) {
        self.daemon = None;
    }
}

/// dockerd with BuildKit enabled. Its registry cache is the inline one.
struct Docker {
    client: PathBuf,
    daemon: Option<Daemon>,
}

impl Docker {
    fn client(&self, folder: &Path) -> Command {
        let mut command = Command::new(&self.client);
        command.arg("--host").arg(format!("unix://{}/socket", folder.display()));
        command.env("DOCKER_BUILDKIT", "1").env("DOCKER_CONFIG", folder);
        command
    }
}

impl Tool for Docker {
    fn name(&self) -> &'static str {
        "dockerd"
    }

    fn start(&mut self) -> Result<()> {
        let folder = folder("dockerd")?;
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("daemon.json"), "{}").context("a settings file")?;
        let mut daemon = Command::new("dockerd");
        daemon.arg("--host").arg(format!("unix://{}", at("socket").display()));
        daemon
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"));
        daemon
            .arg("--config-file")
            .arg(at("daemon.json"))
            .args(["--iptables=false", "--bridge=none"]);
        let mut ready = self.client(folder.path());
        ready.arg("version");
        self.daemon = Some(Daemon::start(daemon, folder, ready)?);
        Ok(())
    }

    fn commands(&self, host: &str, context: &Path) -> Vec<Command> {
        let Some(daemon) = &self.daemon else { return Vec::new() };
        let image = format!("{host}/app:latest");
        let mut build = self.client(daemon.folder.path());
        build.args(["build", "--network", "host", "--build-arg", "BUILDKIT_INLINE_CACHE=1"]);
        build
            .args([
                "--build-arg",
                &format!("REGISTRY={host}"),
                "--cache-from",
                &image,
                "--tag",
                &image,
            ])
            .arg(context);
        let mut push = self.client(daemon.folder.path());
        push.args(["push", &image]);
        vec![build, push]
    }

    fn daemons(&self) -> Vec<u32> {
        self.daemon.iter().map(|daemon| daemon.child.id()).collect()
    }

    fn stop(&mut self) {
        self.daemon = None;
    }
}

struct Buildah {
    state: Option<TempDir>,
}

impl Tool for Buildah {
    fn name(&self) -> &'static str {
        "buildah"
    }

    fn start(&mut self) -> Result<()> {
        self.stop();
        self.state = Some(folder("buildah")?);
        Ok(())
    }

    fn commands(&self, host: &str, context: &Path) -> Vec<Command> {
        let Some(state) = &self.state else { return Vec::new() };
        let buildah = || {
            let mut command = Command::new("buildah");
            command
                .arg("--root")
                .arg(state.path().join("root"))
                .arg("--runroot")
                .arg(state.path().join("run"));
            command.args(["--storage-driver", "overlay"]);
            command
        };
        let (image, cache) = (format!("{host}/app:latest"), format!("{host}/app-cache"));
        let mut build = buildah();
        build.args([
            "build",
            "--layers",
            "--tls-verify=false",
            "--network",
            "host",
            "--isolation",
            "chroot",
        ]);
        build.args(["--cache-from", &cache, "--cache-to", &cache]);
        build.args(["--build-arg", &format!("REGISTRY={host}"), "--tag", &image]).arg(context);
        let mut push = buildah();
        push.args(["push", "--tls-verify=false", &image]);
        vec![build, push]
    }

    fn daemons(&self) -> Vec<u32> {
        Vec::new()
    }

    fn stop(&mut self) {
        if let Some(state) = self.state.take() {
            unmount_below(state.path());
        }
    }
}
