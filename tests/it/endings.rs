//! Builds that are ended by a signal at any point, and files that cannot be read to an end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use fixtures::{Access, Kiln};
use rustix::fs::{CWD, FileType, Mode, mkfifoat, mknodat};
use rustix::process::{Pid, Signal, kill_process};

use crate::{context_of, kiln, registry, text};

/// Maximum time for a step of a test, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running build.
pub(crate) struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    pub(crate) fn start(kiln: &Kiln, args: &[&str], stdin: Stdio) -> Running {
        let mut command = kiln.command(args);
        command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        Running { child, lines }
    }

    pub(crate) fn says(&self, word: &str) {
        let mut seen = String::new();
        while !seen.contains(word) {
            let line = self.lines.recv_timeout(PATIENCE);
            seen.push_str(&line.unwrap_or_else(|_| panic!("no `{word}` in:\n{seen}")));
            seen.push('\n');
        }
    }

    /// Waits for the end; returns the exit code and what was said since the last look.
    pub(crate) fn ends(mut self) -> (Option<i32>, String) {
        let said: Vec<String> = self.lines.iter().collect();
        (self.child.wait().unwrap().code(), said.join("\n"))
    }

    /// Sends a signal, waits for the end and returns the exit code.
    pub(crate) fn ends_of(mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
        let (sender, ended) = mpsc::channel();
        std::thread::spawn(move || sender.send(self.child.wait().unwrap().code()));
        ended.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let _ = kill_process(pid, Signal::KILL);
            panic!("{signal:?} did not end it")
        })
    }
}

const SIGNALS: [Signal; 2] = [Signal::TERM, Signal::INT];

/// The processes whose command line contains a word.
pub(crate) fn processes(word: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(word))
        .collect()
}

fn leaves_nothing(kiln: &Kiln, word: &str) {
    assert_eq!(processes(word), Vec::<String>::new());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = text(&kiln.root());
    let left: Vec<_> = mounts.lines().filter(|line| line.contains(&root)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_command_that_ignores_signals_ends_with_its_build() {
    let test = "a_command_that_ignores_signals_ends_with_its_build";
    let Some(registry) = registry(test, Access::Open) else { return };
    let isolations: &[&str] =
        if fixtures::is_root() { &["namespaces", "chroot"] } else { &["auto"] };
    for isolation in isolations {
        for signal in SIGNALS {
            let kiln = kiln();
            let word = format!("7654.{}", std::process::id());
            let dockerfile = format!(
                "FROM {}/library/busybox\nRUN trap '' TERM INT HUP; echo beg''un; \
                 (setsid sleep {word} &); while :; do sleep {word}; done\n",
                registry.host()
            );
            let context = context_of(&[("Dockerfile", &dockerfile)]);
            let isolation = format!("--isolation={isolation}");
            let args = ["build", "--progress=plain", &isolation, &text(context.path())];
            let running = Running::start(&kiln, &args, Stdio::null());
            running.says("begun");
            assert_eq!(running.ends_of(signal), Some(130), "{isolation}");
            leaves_nothing(&kiln, &word);
        }
    }
}

#[test]
fn a_server_that_says_nothing_keeps_no_build() {
    let hanging = |line: &str, signal| {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap().to_string();
        let context = context_of(&[("Dockerfile", &line.replace("SERVER", &address))]);
        let kiln = kiln();
        let args =
            ["build", "--progress=plain", "--output=type=tar,dest=out", &text(context.path())];
        let running = Running::start(&kiln, &args, Stdio::null());
        let connection = server.accept().unwrap();
        assert_eq!(running.ends_of(signal), Some(130), "{line}");
        drop(connection);
    };
    for signal in SIGNALS {
        hanging("FROM SERVER/some/image\n", signal);
        hanging("FROM scratch\nADD http://SERVER/file /\n", signal);
        hanging("FROM scratch\nADD http://SERVER/repository.git /\n", signal);
    }
}

/// More bytes than a pipe holds, so that a write ends only after the reader has begun.
const MUCH: usize = 1 << 18;

#[test]
fn input_that_does_not_end_keeps_no_build() {
    let folder = context_of(&[("Dockerfile", "FROM scratch\n")]);
    let context = text(folder.path());
    for signal in SIGNALS {
        for args in [
            &["build", "-f", "-", &context][..],
            &["build", "-"],
            // Read in the middle of a build, when no other step can run.
            &["build", "-f", "/dev/stdin", &context],
            &["build", "--secret", "id=a,src=/dev/stdin", &context],
        ] {
            let kiln = kiln();
            let mut running = Running::start(&kiln, args, Stdio::piped());
            let mut stdin = running.child.stdin.take().unwrap();
            stdin.write_all(&vec![b'#'; MUCH]).unwrap();
            assert_eq!(running.ends_of(signal), Some(130), "{args:?}");
            drop(stdin);
        }
    }
}

#[test]
fn a_pipe_may_be_a_secret() {
    let folder = context_of(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let (context, pipe) = (text(folder.path()), folder.path().join("pipe"));
    mkfifoat(CWD, &pipe, Mode::from_raw_mode(0o600)).unwrap();
    let secret = format!("id=a,src={}", pipe.display());
    let args = ["build", "--output=type=tar,dest=out", "--secret", &secret, &context];
    // Opening a pipe for writing blocks until there is a reader.
    let write = || std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    let kiln = kiln();
    let mut running = Running::start(&kiln, &args, Stdio::null());
    write().write_all(b"s3cret").unwrap();
    assert!(running.child.wait().unwrap().success());
    for signal in SIGNALS {
        let running = Running::start(&kiln, &args, Stdio::null());
        let pipe = write();
        assert_eq!(running.ends_of(signal), Some(130));
        drop(pipe);
    }
}

/// Puts special files at a path, which would block a reader or never end.
fn special_files(path: &Path, mut check: impl FnMut(&str)) {
    let remove = || drop(std::fs::remove_file(path));
    remove();
    mkfifoat(CWD, path, Mode::from_raw_mode(0o644)).unwrap();
    check("a pipe");
    remove();
    // Not bound, because the path may be longer than a socket address.
    mknodat(CWD, path, FileType::Socket, Mode::from_raw_mode(0o644), 0).unwrap();
    check("a socket");
    remove();
    symlink("/dev/zero", path).unwrap();
    check("a device");
    remove();
}

#[test]
fn texts_of_a_context_are_regular_files() {
    let folder = context_of(&[("Dockerfile", "FROM scratch\nCOPY kept /\n"), ("kept", "x")]);
    let (context, kiln) = (text(folder.path()), kiln());
    let build = |more: &[&str]| {
        let mut args = vec!["build", "--output=type=tar,dest=out", &context];
        args.extend(more);
        kiln.run(args)
    };
    let refused = |more: &[&str], kind: &str| {
        let run = build(more);
        assert!(run.refused(), "{more:?} {kind}: {}", run.stderr);
        assert!(
            run.stderr.contains(&format!("it is {kind} and no regular file")),
            "{}",
            run.stderr
        );
    };
    let path = |name: &str| folder.path().join(name);
    special_files(&path("other"), |kind| refused(&["-f", &text(&path("other"))], kind));
    for ignore in [".dockerignore", "Dockerfile.dockerignore"] {
        special_files(&path(ignore), |kind| refused(&[], kind));
    }
    build(&[]).expect_ok();
    special_files(&path("Dockerfile"), |kind| refused(&[], kind));
}

/// A pipe of a shell, as in `-f <(make-dockerfile)`.
#[test]
fn a_descriptor_may_be_a_dockerfile() {
    let folder = context_of(&[("kept", "x")]);
    let kiln = kiln();
    let args = ["build", "-f", "/dev/stdin", "-o", "type=tar,dest=out", &text(folder.path())];
    kiln.run_with_input(args, b"FROM scratch\nCOPY kept /\n").expect_ok();
}

#[test]
fn layouts_and_local_caches_have_regular_files() {
    let folder = context_of(&[("Dockerfile", "FROM scratch\nCOPY kept /\n"), ("kept", "x")]);
    let (context, kiln) = (text(folder.path()), kiln());
    let (cache, layout) = (folder.path().join("cache"), folder.path().join("layout"));
    let to = format!("type=local,dest={}", text(&cache));
    let from = format!("type=local,src={}", text(&cache));
    let output = format!("type=oci,tar=false,dest={}", text(&layout));
    kiln.run(["build", "--cache-to", &to, "--output", &output, &context]).expect_ok();

    // An unreadable cache counts as missing.
    let mut names = blobs(&cache);
    names.push("index.json".into());
    for name in &names {
        let (path, kept) = (cache.join(name), std::fs::read(cache.join(name)).unwrap());
        special_files(&path, |kind| {
            kiln.empty_root();
            let args = ["build", "--cache-from", &from, "--output=type=tar,dest=out", &context];
            let run = kiln.run(args).expect_ok();
            let is_layer = run.stderr.contains("CACHED");
            assert!(is_layer || run.stderr.contains(kind), "{name} {kind}: {}", run.stderr);
        });
        std::fs::write(&path, kept).unwrap();
    }

    // An unreadable base fails the build.
    let using = context_of(&[("Dockerfile", "FROM base\nCOPY kept /more\n"), ("kept", "x")]);
    let named = format!("base=oci-layout://{}", text(&layout));
    let mut names = blobs(&layout);
    names.push("index.json".into());
    for name in &names {
        let (path, kept) = (layout.join(name), std::fs::read(layout.join(name)).unwrap());
        special_files(&path, |kind| {
            kiln.empty_root();
            let output = "--output=type=tar,dest=out";
            let run = kiln.run(["build", "--build-context", &named, output, &text(using.path())]);
            assert!(run.refused(), "{name} {kind}: {}", run.stderr);
            // A folder without an index is not a layout.
            let says = if name == "index.json" { "no index.json" } else { kind };
            assert!(run.stderr.contains(says), "{name} {kind}: {}", run.stderr);
        });
        std::fs::write(&path, kept).unwrap();
    }
}

/// The paths of a layout's blobs, relative to the layout.
fn blobs(layout: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(layout.join("blobs/sha256")).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    entries.map(|entry| format!("blobs/sha256/{}", name(entry).display())).collect()
}
