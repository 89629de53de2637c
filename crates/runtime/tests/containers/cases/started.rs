//! Containers with a life of their own, in both isolations.

use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use runtime::{
    Container, ContainerOutput, Error, Exit, Isolation, Mount, MountKind, RootSource,
    RunningContainer, Runtime, RuntimeOptions, Stream, Streams,
};
use tokio::io::AsyncWriteExt;

use super::Outcome;
use super::chroot::Plain;
use super::lifetime::Alive;
use crate::fixture::{Fixture, tree};

/// No input.
pub const SILENT: Streams = Streams::Piped { stdin: false };
/// An input.
pub const TALKING: Streams = Streams::Piped { stdin: true };

/// The isolation of a case.
pub enum Ground<'a> {
    Namespaces(&'a Fixture),
    Folder(&'a Fixture, Plain),
}

impl Ground<'_> {
    pub fn fixture(&self) -> &Fixture {
        match self {
            Ground::Namespaces(fixture) | Ground::Folder(fixture, _) => fixture,
        }
    }

    pub fn runtime(&self) -> &Arc<Runtime> {
        match self {
            Ground::Namespaces(fixture) => &fixture.runtime,
            Ground::Folder(_, plain) => &plain.runtime,
        }
    }

    pub fn command(&self, args: &[&str]) -> Container {
        match self {
            Ground::Namespaces(fixture) => fixture.on(&fixture.layer(), args),
            Ground::Folder(_, plain) => plain.command(args),
        }
    }

    pub fn shell(&self, script: &str) -> Container {
        self.command(&["/bin/sh", "-c", script])
    }

    pub fn is_folder(&self) -> bool {
        matches!(self, Ground::Folder(..))
    }

    /// Starts a container, and waits until it has printed the line `ready`.
    pub async fn ready(&self, container: Container, streams: Streams) -> RunningContainer {
        let mut running = self.runtime().start_container(container, streams).await.unwrap();
        assert_eq!(lines_until(&mut running.output, "ready").await, "ready\n");
        running
    }

    pub async fn start(&self, script: &str, streams: Streams) -> RunningContainer {
        self.runtime().start_container(self.shell(script), streams).await.unwrap()
    }
}

/// Makes a case of each function for both isolations.
macro_rules! in_both {
    ($($name:ident)*) => {
        pub mod namespaces {
            use super::super::Outcome;
            use super::super::started::Ground;
            use crate::fixture::Fixture;
            $(pub async fn $name(fixture: &Fixture) -> Outcome {
                super::$name(&Ground::Namespaces(fixture)).await
            })*
        }
        pub mod folder {
            use super::super::Outcome;
            use super::super::chroot::Plain;
            use super::super::started::Ground;
            use crate::fixture::Fixture;
            $(pub async fn $name(fixture: &Fixture) -> Outcome {
                super::$name(&Ground::Folder(fixture, Plain::new(fixture)?)).await
            })*
        }
    };
}
pub(super) use in_both;

in_both! {
    input_reaches_the_command_until_its_end
    ends_are_told_to_all_who_wait
    a_handler_gets_its_signal
    a_signal_without_handler
    a_killed_container_leaves_nothing
    a_dropped_container_ends
    programs_that_cannot_run
    output_waits_to_be_read
    files_are_found_while_it_runs
    processes_are_listed
}

/// All that a command prints.
pub async fn all(output: &mut ContainerOutput) -> String {
    let mut bytes = Vec::new();
    while let Some((_, piece)) = output.next().await {
        bytes.extend(piece);
    }
    String::from_utf8(bytes).unwrap()
}

/// The output of a command, up to a line that ends with these words.
pub async fn lines_until(output: &mut ContainerOutput, words: &str) -> String {
    let mut text = String::new();
    while !text.lines().any(|line| line.ends_with(words)) || !text.ends_with('\n') {
        let (_, piece) = output.next().await.unwrap_or_else(|| panic!("no `{words}`: {text}"));
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
    text
}

/// The upper folder of a container, or its root.
fn changes(container: &Container) -> std::path::PathBuf {
    match &container.root {
        RootSource::Overlay(overlay) => overlay.writable.clone().unwrap().upper,
        RootSource::Directory(directory) => directory.clone(),
    }
}

async fn input_reaches_the_command_until_its_end(ground: &Ground<'_>) -> Outcome {
    let running = ground.start("cat; echo end; echo err >&2", TALKING).await;
    let RunningContainer { stdin, mut output, process } = running;
    let mut stdin = stdin.unwrap();
    stdin.write_all(b"one\n").await.unwrap();
    assert_eq!(output.next().await, Some((Stream::Stdout, b"one\n".to_vec())));
    // More than a pipe holds.
    let large = vec![b'x'; 300_000];
    let written = async move { stdin.write_all(&large).await.unwrap() };
    let (mut stdout, mut stderr) = (0, 0);
    let read = async {
        while let Some((stream, piece)) = output.next().await {
            match stream {
                Stream::Stdout => stdout += piece.len(),
                Stream::Stderr => stderr += piece.len(),
            }
        }
    };
    tokio::join!(written, read);
    assert_eq!((stdout, stderr), (300_000 + "end\n".len(), "err\n".len()));
    assert_eq!(process.wait().await.unwrap().exit, Exit::Code(0));

    let mut running = ground.start("cat; echo end", SILENT).await;
    assert!(running.stdin.is_none());
    assert_eq!(all(&mut running.output).await, "end\n");
    Ok(())
}

async fn ends_are_told_to_all_who_wait(ground: &Ground<'_>) -> Outcome {
    let running = ground.start("read line; exit 7", TALKING).await;
    assert!(running.process.pid() > 0);
    let (one, other) = (running.process.clone(), running.process.clone());
    let end = async { drop(running.stdin) };
    let (one, other, ()) = tokio::join!(one.wait(), other.wait(), end);
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.exit, Exit::Code(7));
    assert_eq!(one, other);
    assert_eq!(running.process.wait().await.unwrap(), one);
    assert!(matches!(running.process.signal(15).await, Err(Error::ContainerEnded)));
    assert!(matches!(running.process.root().await, Err(Error::ContainerEnded)));
    Ok(())
}

async fn a_handler_gets_its_signal(ground: &Ground<'_>) -> Outcome {
    let script = "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.02; done";
    let mut running = ground.ready(ground.shell(script), SILENT).await;
    for wrong in [0, -1, 1000] {
        assert!(matches!(running.process.signal(wrong).await, Err(Error::Refused(_))));
    }
    running.process.signal(15).await.unwrap();
    assert_eq!(all(&mut running.output).await, "got\n");
    assert_eq!(running.process.wait().await.unwrap().exit, Exit::Code(3));
    Ok(())
}

async fn a_signal_without_handler(ground: &Ground<'_>) -> Outcome {
    let running = ground.ready(ground.shell("echo ready; exec sleep 1000"), SILENT).await;
    running.process.signal(libc::SIGTERM).await.unwrap();
    if !ground.is_folder() {
        // The kernel ignores it for a first process. A command that starts later proves it.
        super::joined::is_asleep(&running.process).await;
        running.process.signal(libc::SIGKILL).await.unwrap();
    }
    let expected = if ground.is_folder() { libc::SIGTERM } else { libc::SIGKILL };
    assert_eq!(running.process.wait().await.unwrap().exit, Exit::Signal(expected));
    Ok(())
}

/// A container whose processes ignore signals, and hold a pipe open.
fn stubborn(ground: &Ground<'_>) -> (Container, Alive) {
    let alive = Alive::new(ground.fixture());
    let script = "trap '' TERM INT HUP; exec 3>/m/line
                  (setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &)
                  echo ready; while :; do sleep 1; done";
    let mut container = ground.shell(script);
    container.mounts.push(alive.mount());
    (container, alive)
}

async fn a_killed_container_leaves_nothing(ground: &Ground<'_>) -> Outcome {
    let (container, alive) = stubborn(ground);
    let changes = changes(&container);
    let before = tree(&changes);
    let running = ground.ready(container, SILENT).await;
    assert!(!alive.is_over());
    running.process.kill();
    let finished = running.process.wait().await.unwrap();
    assert_eq!(finished.exit, Exit::Signal(libc::SIGKILL));
    assert!(alive.is_over());
    assert_eq!(tree(&changes), before, "the mount points are gone");
    Ok(())
}

async fn a_dropped_container_ends(ground: &Ground<'_>) -> Outcome {
    // A start that is given up is over when that returns.
    let (container, alive) = stubborn(ground);
    let start = ground.runtime().start_container(container, SILENT);
    tokio::select! {
        biased;
        _ = start => panic!("nothing starts at once"),
        () = tokio::task::yield_now() => {}
    }
    assert!(alive.is_over());

    let (container, alive) = stubborn(ground);
    let RunningContainer { output, process, .. } = ground.ready(container, SILENT).await;
    let second = process.clone();
    drop(process);
    assert!(second.root().await.is_ok(), "one handle is left");
    drop(second);
    alive.ended().await;
    drop(output);
    Ok(())
}

async fn programs_that_cannot_run(ground: &Ground<'_>) -> Outcome {
    let start = async |container| {
        let result = ground.runtime().start_container(container, TALKING).await;
        result.err().unwrap()
    };
    let error = start(ground.command(&["/no/such"])).await;
    assert!(matches!(error, Error::ProgramNotFound { program } if program == "/no/such"));
    assert!(matches!(start(ground.command(&["/etc/passwd"])).await, Error::ProgramDenied { .. }));
    let mut container = ground.shell("true");
    container.user = Some("whoever".into());
    assert!(matches!(start(container).await, Error::NoSuchUser { .. }));
    let mut container = ground.shell("true");
    container.cwd = "w".into();
    assert!(matches!(start(container).await, Error::Refused(_)));
    Ok(())
}

async fn output_waits_to_be_read(ground: &Ground<'_>) -> Outcome {
    let script = "head -c 1000000 /dev/zero; echo over >/written";
    let container = ground.shell(script);
    let written = changes(&container).join("written");
    let mut running = ground.runtime().start_container(container, SILENT).await.unwrap();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(!written.exists(), "the command waits for its reader");
    }
    assert_eq!(all(&mut running.output).await.len(), 1_000_000);
    assert_eq!(running.process.wait().await.unwrap().exit, Exit::Code(0));
    assert!(written.exists());
    Ok(())
}

async fn files_are_found_while_it_runs(ground: &Ground<'_>) -> Outcome {
    let script = "echo text >/m/file; ln -s /m /etc/link; ln -s ../../../../m /etc/up
                  mkfifo /tmp/pipe; echo ready; exec sleep 1000";
    let mut container = ground.shell(script);
    let kind = MountKind::Tmpfs { size: None, readonly: false };
    container.mounts.push(Mount { target: "/m".into(), kind });
    let running = ground.ready(container, SILENT).await;
    let root = running.process.root().await.unwrap();
    for path in ["/m/file", "m/file", "/etc/link/file", "/etc/up/../m/file", "/../m/file"] {
        let mut text = String::new();
        root.read(path).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text\n", "{path}");
    }
    for path in ["/tmp/pipe", "/dev/null", "/etc"] {
        assert_eq!(root.read(path).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{path}");
    }
    assert!(root.find("/no/such").is_err());
    let (folder, name) = root.folder_of("/m/new").unwrap();
    let flags = rustix::fs::OFlags::CREATE
        | rustix::fs::OFlags::EXCL
        | rustix::fs::OFlags::WRONLY
        | rustix::fs::OFlags::NOFOLLOW;
    let new = rustix::fs::openat(folder, &name, flags, rustix::fs::Mode::RWXU).unwrap();
    std::io::Write::write_all(&mut fs::File::from(new), b"given\n").unwrap();
    assert_eq!(super::joined::says(&running.process, "cat /m/new").await, "given\n");
    Ok(())
}

async fn processes_are_listed(ground: &Ground<'_>) -> Outcome {
    let script = "sleep 1000 & sleep 1000 & echo ready; wait";
    let running = ground.ready(ground.shell(script), SILENT).await;
    let listed = running.process.processes();
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert!(listed.contains(&running.process.pid()));
    running.process.kill();
    running.process.wait().await.unwrap();
    assert!(running.process.processes().is_empty());
    Ok(())
}

pub async fn a_first_process_besides_the_command(fixture: &Fixture) -> Outcome {
    let ground = Ground::Namespaces(fixture);
    let start = async |script: &str| {
        let mut container = ground.shell(script);
        container.init = true;
        ground.runtime().start_container(container, SILENT).await.unwrap()
    };
    // An orphan is reaped, and who waits for it to be gone sees that.
    let script = "test $$ != 1 && grep -c kiln-init /proc/1/cmdline
                  (sleep 0.01 & echo $! >/tmp/orphan)
                  while test -e /proc/$(cat /tmp/orphan); do sleep 0.01; done; exit 7";
    let mut running = start(script).await;
    assert_eq!(all(&mut running.output).await, "1\n");
    assert_eq!(running.process.wait().await.unwrap().exit, Exit::Code(7));

    let mut running = start("echo ready; exec sleep 1000").await;
    lines_until(&mut running.output, "ready").await;
    running.process.signal(libc::SIGTERM).await.unwrap();
    assert_eq!(running.process.wait().await.unwrap().exit, Exit::Code(128 + libc::SIGTERM));

    let mut container = ground.command(&["/no/such"]);
    container.init = true;
    let error = ground.runtime().start_container(container, SILENT).await.err().unwrap();
    assert!(matches!(error, Error::ProgramNotFound { .. }), "{error:?}");
    Ok(())
}

pub async fn a_root_for_reading(fixture: &Fixture) -> Outcome {
    let mut container = fixture.shell(
        "(echo x >/file) 2>/dev/null || echo refused
         echo x >/m/file && cat /m/file; echo lost >/dev/null; touch /dev/shm/file; pwd",
    );
    container.readonly_root = true;
    container.cwd = "/work".into();
    let kind = MountKind::Tmpfs { size: None, readonly: false };
    container.mounts.push(Mount { target: "/m".into(), kind });
    assert_eq!(fixture.says(&container).await, "refused\nx\n/work\n");
    Ok(())
}

pub async fn a_folder_is_not_read_only(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    let mut container = plain.command(&["true"]);
    container.readonly_root = true;
    let error = plain.runtime.start_container(container, SILENT).await.err().unwrap();
    assert!(matches!(&error, Error::Refused(reason) if reason.contains("read-only")), "{error:?}");
    Ok(())
}

pub async fn in_place_starts_nothing(fixture: &Fixture) -> Outcome {
    let options = RuntimeOptions {
        init_exe: "/proc/self/exe".into(),
        state_dir: fixture.folder(),
        kept: Vec::new(),
    };
    let runtime = Runtime::new(options).unwrap().with_isolation(Isolation::InPlace);
    let container = fixture.shell("true");
    let error = Arc::new(runtime).start_container(container, SILENT).await.err().unwrap();
    assert!(matches!(&error, Error::Refused(reason) if reason.contains("in place")), "{error:?}");
    Ok(())
}
