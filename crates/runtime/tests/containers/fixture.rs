//! A busybox root and helpers for running commands in it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use runtime::{
    Container, Error, Finished, Overlay, RootSource, Runtime, RuntimeOptions, Stream, Writable,
};

pub const BUSYBOX: &str = "/bin/busybox";

pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub struct Fixture {
    pub runtime: Arc<Runtime>,
    pub userxattr: bool,
    /// True if root is the only possible user.
    pub single: bool,
    pub base: PathBuf,
    folder: tempfile::TempDir,
    count: AtomicU32,
}

/// The output and the end of a run.
#[derive(Debug)]
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub finished: Finished,
}

/// Directories for one overlay.
#[derive(Clone)]
pub struct Layer {
    pub upper: PathBuf,
    pub work: PathBuf,
}

impl Fixture {
    pub fn new(userxattr: bool, single: bool) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base");
        for name in ["bin", "etc", "tmp", "root"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        fs::set_permissions(base.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
        fs::write(
            base.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nann:x:500:600:Ann:/home/ann:/bin/sh\n",
        )
        .unwrap();
        fs::write(base.join("etc/group"), "root:x:0:\nann:x:600:\nextra:x:700:ann\nsolo:x:800:\n")
            .unwrap();
        if Path::new(BUSYBOX).exists() {
            fs::copy(BUSYBOX, base.join("bin/busybox")).unwrap();
            let applets = Command::new(BUSYBOX).arg("--list").output().unwrap().stdout;
            for applet in
                String::from_utf8(applets).unwrap().lines().filter(|applet| *applet != "busybox")
            {
                symlink("busybox", base.join("bin").join(applet)).unwrap();
            }
        }
        let state_dir = folder.path().join("state");
        let init_exe = "/proc/self/exe".into();
        let options = RuntimeOptions { init_exe, state_dir, kept: Vec::new() };
        let runtime = Arc::new(Runtime::new(options).unwrap());
        Fixture { runtime, userxattr, single, base, folder, count: AtomicU32::new(0) }
    }

    /// True for a line of mountinfo that belongs to these tests: a path in this folder, or an overlay mounted by kiln.
    pub fn is_ours(&self, line: &str) -> bool {
        line.contains(&*self.folder.path().to_string_lossy()) || line.contains("lowerdir=0")
    }

    /// A new, empty folder.
    pub fn folder(&self) -> PathBuf {
        let path = self.folder.path().join(self.count.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&path).unwrap();
        path
    }

    pub fn layer(&self) -> Layer {
        let folder = self.folder();
        let layer = Layer { upper: folder.join("upper"), work: folder.join("work") };
        fs::create_dir(&layer.upper).unwrap();
        fs::create_dir(&layer.work).unwrap();
        layer
    }

    pub fn overlay(&self, lowers: Vec<PathBuf>, layer: Option<&Layer>) -> Overlay {
        let writable =
            layer.map(|layer| Writable { upper: layer.upper.clone(), work: layer.work.clone() });
        Overlay { lowers, writable, userxattr: self.userxattr }
    }

    /// A container over the base with `layer` on top.
    pub fn on(&self, layer: &Layer, args: &[&str]) -> Container {
        let root = RootSource::Overlay(self.overlay(vec![self.base.clone()], Some(layer)));
        let mut container =
            Container::new(root, args.iter().map(|arg| (*arg).to_owned()).collect());
        container.env.push(("PATH".into(), PATH.into()));
        container
    }

    pub fn shell(&self, script: &str) -> Container {
        self.on(&self.layer(), &["/bin/sh", "-c", script])
    }

    pub async fn run(&self, container: &Container) -> Result<Ran, Error> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let output = |stream, bytes: &[u8]| match stream {
            Stream::Stdout => stdout.extend_from_slice(bytes),
            Stream::Stderr => stderr.extend_from_slice(bytes),
        };
        let finished = self.runtime.run(container, output, std::future::pending()).await?;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ok(Ran { stdout: text(stdout), stderr: text(stderr), finished })
    }

    /// Runs a command that must succeed, and returns its output.
    pub async fn says(&self, container: &Container) -> String {
        let ran = self.run(container).await.unwrap_or_else(|error| panic!("{error:?}"));
        assert!(ran.finished.exit.is_success(), "{ran:?}");
        ran.stdout
    }
}

/// All paths below `folder`, sorted.
pub fn tree(folder: &Path) -> Vec<String> {
    fn visit(folder: &Path, top: &Path, paths: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            paths.push(path.strip_prefix(top).unwrap().display().to_string());
            if path.symlink_metadata().unwrap().is_dir() {
                visit(&path, top, paths);
            }
        }
    }
    let mut paths = Vec::new();
    visit(folder, folder, &mut paths);
    paths.sort();
    paths
}
