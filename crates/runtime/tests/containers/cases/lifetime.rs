//! The end of containers, however kiln ends.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};

use runtime::{Container, Error, Mount, MountKind, RootSource};

use super::Outcome;
use crate::fixture::{Fixture, tree};

/// A folder mounted at `/m`, with a pipe. A process that has it open for writing is known to be alive.
pub struct Alive {
    pub folder: PathBuf,
    pipe: File,
}

impl Alive {
    pub fn new(fixture: &Fixture) -> Alive {
        let folder = fixture.folder();
        let line = folder.join("line");
        mknodat(CWD, &line, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let pipe = File::from(open(&line, flags, Mode::empty()).unwrap());
        Alive { folder, pipe }
    }

    pub fn mount(&self) -> Mount {
        let (source, subpath) = (self.folder.clone(), String::new());
        Mount { target: "/m".into(), kind: MountKind::Bind { source, subpath, readonly: false } }
    }

    /// Waits for the end of the last writer.
    pub async fn ended(&self) {
        while !self.is_over() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns true at the end of the pipe, which comes when there is no writer left.
    pub fn is_over(&self) -> bool {
        let mut bytes = [0; 1024];
        loop {
            match (&self.pipe).read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                    return false;
                }
            }
        }
    }
}

/// Starts a command that ignores signals, and waits for its first output.
pub fn stubborn(fixture: &Fixture) -> (Container, Alive) {
    let alive = Alive::new(fixture);
    let script = "trap '' TERM INT HUP; exec 3>/m/line; (trap '' TERM; while :; do sleep 1; done) & \
                  echo started; while :; do sleep 1; done";
    let mut container = fixture.shell(script);
    container.mounts.push(alive.mount());
    (container, alive)
}

pub async fn cancel_kills_the_tree(fixture: &Fixture) -> Outcome {
    let (container, alive) = stubborn(fixture);
    let (cancel, cancelled) = tokio::sync::oneshot::channel::<()>();
    let mut cancel = Some(cancel);
    let output = |_, _: &[u8]| drop(cancel.take());
    let result = fixture.runtime.run(&container, output, async { drop(cancelled.await) }).await;
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert!(alive.is_over());
    Ok(())
}

pub async fn dropping_kills_the_tree(fixture: &Fixture) -> Outcome {
    let (container, alive) = stubborn(fixture);
    let started = tokio::sync::Notify::new();
    let layer = match &container.root {
        RootSource::Overlay(overlay) => overlay.writable.clone().unwrap().upper,
        RootSource::Directory(directory) => directory.clone(),
    };
    {
        let run = fixture.runtime.run(
            &container,
            |_, _: &[u8]| started.notify_one(),
            std::future::pending(),
        );
        tokio::select! {
            result = run => panic!("ended: {result:?}"),
            () = started.notified() => {}
        }
    }
    assert!(alive.is_over());
    assert!(tree(&layer).is_empty(), "the mount points are removed all the same");
    Ok(())
}

/// Runs the container of the next case, until this process is killed.
pub async fn hold(fixture: &Fixture, folder: PathBuf) {
    let script = "trap '' TERM HUP; exec 3>/m/line; echo up >&3; sleep 1000 & sleep 1000";
    let mut container = fixture.shell(script);
    let kind = MountKind::Bind { source: folder, subpath: String::new(), readonly: false };
    container.mounts.push(Mount { target: "/m".into(), kind });
    fixture.says(&container).await;
}

pub async fn a_killed_kiln_takes_the_tree_along(fixture: &Fixture) -> Outcome {
    kill_a_holder(fixture, crate::HOLD, &["up"])
}

/// Kills a kiln that holds a container, once the container's processes have written these words.
pub fn kill_a_holder(fixture: &Fixture, how: &str, words: &[&str]) -> Outcome {
    use std::io::BufRead;
    let folder = fixture.folder();
    let line = folder.join("line");
    mknodat(CWD, &line, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let mut kiln = std::process::Command::new("/proc/self/exe")
        .arg(how)
        .arg(&folder)
        .env("TMPDIR", fixture.folder())
        .spawn()
        .unwrap();
    let mut line = std::io::BufReader::new(fs::File::open(line).unwrap());
    let mut said: Vec<String> = Vec::new();
    for _ in words {
        let mut word = String::new();
        line.read_line(&mut word).unwrap();
        said.push(word.trim().to_owned());
    }
    said.sort();
    assert_eq!(said, words);
    let mut word = String::new();
    kiln.kill().unwrap();
    // Ends when the last process of the container has ended.
    line.read_to_string(&mut word).unwrap();
    kiln.wait().unwrap();

    // The next runtime removes the killed one's cgroup.
    drop(Fixture::new(fixture.userxattr, fixture.single));
    let cgroups = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .into_iter()
        .filter_map(|top| fs::read_dir(top).ok());
    let own = format!("kiln-containers-{}-", kiln.id());
    let left = cgroups
        .flatten()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(&own));
    assert!(left.is_none(), "{left:?}");
    Ok(())
}

/// The process ids of a process's children.
fn children(process: u32) -> Vec<i32> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    found
}

/// Sends a signal to a process that may have ended.
fn send(pid: i32, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Stops the probe's process at a later point each time, lets its own child continue as far as it can, and kills it.
pub async fn a_killed_probe_ends(fixture: &Fixture) -> Outcome {
    use rustix::process::Signal;
    use std::time::Instant;
    for turn in 0..60 {
        let (done, result) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| done.send(fixture.runtime.probe_chroot().is_ok()));
            let own = std::process::id();
            let init = loop {
                if let Some(init) = children(own).first() {
                    break *init;
                }
                // The probe ended before its process was seen.
                if result.try_recv().is_ok() {
                    return;
                }
            };
            let found = Instant::now();
            while found.elapsed() < Duration::from_micros(turn * 150) {
                std::hint::spin_loop();
            }
            send(init, Signal::STOP);
            let stopped = Instant::now();
            while stopped.elapsed() < Duration::from_millis(5) {
                std::thread::yield_now();
            }
            send(init, Signal::KILL);
            // Far longer than a probe takes on a loaded machine: the test is about the end, not the time.
            let ended = result.recv_timeout(Duration::from_secs(60));
            if ended.is_err() {
                // Otherwise the thread would never end, nor the test.
                for orphan in children(1).into_iter().chain(children(own)) {
                    if fs::read(format!("/proc/{orphan}/cmdline"))
                        .is_ok_and(|line| line.starts_with(b"kiln-init"))
                    {
                        send(orphan, Signal::KILL);
                    }
                }
                panic!("turn {turn}: the probe did not end");
            }
        });
    }
    Ok(())
}

pub async fn background_processes_end(fixture: &Fixture) -> Outcome {
    let start = std::time::Instant::now();
    assert_eq!(fixture.says(&fixture.shell("sleep 300 & echo ok")).await, "ok\n");
    assert!(start.elapsed() < Duration::from_secs(30));
    Ok(())
}

pub async fn concurrent_runs(fixture: &Fixture) -> Outcome {
    let containers: Vec<_> = (0..8).map(|index| fixture.shell(&format!("echo {index}"))).collect();
    let said = futures(containers.iter().map(|container| fixture.says(container)).collect()).await;
    assert_eq!(said, (0..8).map(|index| format!("{index}\n")).collect::<Vec<_>>());
    Ok(())
}

/// Polls all futures until all are done.
pub async fn futures<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, result) in futures.iter_mut().filter(|(_, result)| result.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                *result = Some(value);
            }
        }
        if futures.iter().all(|(_, result)| result.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    futures.into_iter().filter_map(|(_, result)| result).collect()
}
