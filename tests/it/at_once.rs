//! Several builds on one root at the same time: what they have in common is done once.
//!
//! A command tells a server of the test that it runs, and goes on when the server says so.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use fixtures::{Access, DockerRegistry, Kiln};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::endings::Running;
use crate::{context_of, kiln, registry, text};

/// Maximum time for a step of a test, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// The word for a wait in progress.
const WAITS: &str = "waiting for another build";

/// Counts commands, and holds them until it is opened.
struct Gate {
    port: u16,
    arrived: mpsc::Receiver<String>,
    state: Arc<GateState>,
    listening: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct GateState {
    names: Mutex<Vec<String>>,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, arrived) = mpsc::channel();
        let state: Arc<GateState> = Arc::default();
        let shared = state.clone();
        let listening = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (sender, state) = (sender.clone(), shared.clone());
                let mut name = String::new();
                drop(BufReader::new(&stream).read_line(&mut name));
                // The gate itself, at its end.
                if name.is_empty() {
                    return;
                }
                std::thread::spawn(move || {
                    state.names.lock().unwrap().push(name.trim().to_owned());
                    drop(sender.send(name.trim().to_owned()));
                    let is_open = state.is_open.lock().unwrap();
                    drop(state.opened.wait_while(is_open, |is_open| !*is_open).unwrap());
                    drop((&stream).write_all(b"go\n"));
                });
            }
        });
        Self { port, arrived, state, listening: Some(listening) }
    }

    /// A command that counts.
    fn run(&self, name: &str, then: &str) -> String {
        format!("RUN echo {name} | busybox nc 127.0.0.1 {} | grep go {then}\n", self.port)
    }

    /// Waits for the next command; its name.
    fn next(&self) -> String {
        self.arrived.recv_timeout(PATIENCE).expect("no command runs")
    }

    fn open(&self) {
        *self.state.is_open.lock().unwrap() = true;
        self.state.opened.notify_all();
    }

    /// The commands so far, in the order of their names.
    fn names(&self) -> Vec<String> {
        let mut names = self.state.names.lock().unwrap().clone();
        names.sort();
        names
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(listening) = self.listening.take() {
            drop(listening.join());
        }
    }
}

/// A registry, a root without anything in it, and a gate.
struct World {
    registry: DockerRegistry,
    kiln: Kiln,
    gate: Gate,
}

impl World {
    fn new(test: &str) -> Option<Self> {
        Some(Self { registry: registry(test, Access::Open)?, kiln: kiln(), gate: Gate::new() })
    }

    /// A context with a Dockerfile on the base image.
    fn context(&self, lines: &str) -> TempDir {
        let from = format!("FROM {}/library/busybox AS base\n", self.registry.host());
        context_of(&[("Dockerfile", &(from + lines))])
    }

    fn start(&self, context: &TempDir, more: &[&str]) -> Running {
        let folder = text(context.path());
        let args = [&["build", "--progress=plain", "--output=type=cacheonly", &folder], more];
        Running::start(&self.kiln, &args.concat(), Stdio::null())
    }
}

#[test]
fn builds_at_once_on_an_empty_root_do_everything_once() {
    let Some(world) = World::new("builds_at_once_on_an_empty_root_do_everything_once") else {
        return;
    };
    let gate = &world.gate;
    let shared = gate.run("shared", "> /shared");
    let contexts = [
        world.context(&(shared.clone() + &gate.run("one", "> /one"))),
        world.context(
            &(shared + &gate.run("two", "> /two") + "FROM base\nCOPY --from=base /shared /copy\n"),
        ),
    ];
    let running: Vec<Running> =
        (0..6).map(|number| world.start(&contexts[number % 2], &[])).collect();
    assert_eq!(gate.next(), "shared");
    gate.open();
    for build in running {
        let (code, said) = build.ends();
        assert_eq!(code, Some(0), "{said}");
    }
    assert_eq!(gate.names(), ["one", "shared", "two"]);
    let log = world.registry.log();
    let layers = log.iter().filter(|line| line.path.contains("/blobs/") && line.bytes > 100_000);
    assert_eq!(layers.count(), 1, "{log:#?}");
    // No file of a turn is left.
    let turns = std::fs::read_dir(world.kiln.root().join("v1/turns")).unwrap();
    assert_eq!(turns.count(), 0);
}

#[test]
fn a_new_root_is_opened_by_many_at_once() {
    let kiln = kiln();
    for _ in 0..40 {
        kiln.empty_root();
        let running = [(); 8].map(|()| Running::start(&kiln, &["du"], Stdio::null()));
        for command in running {
            assert_eq!(command.ends(), (Some(0), String::new()));
        }
    }
}

#[test]
fn whoever_waits_goes_on_when_the_other_is_killed_and_can_leave() {
    let Some(world) = World::new("whoever_waits_goes_on_when_the_other_is_killed_and_can_leave")
    else {
        return;
    };
    let context = world.context(&world.gate.run("a", "> /a"));
    let first = world.start(&context, &[]);
    assert_eq!(world.gate.next(), "a");
    let [second, third] = [(); 2].map(|()| world.start(&context, &[]));
    second.says(WAITS);
    third.says(WAITS);
    assert_eq!(third.ends_of(Signal::TERM), Some(130));
    assert_eq!(first.ends_of(Signal::KILL), None);
    assert_eq!(world.gate.next(), "a");
    world.gate.open();
    let (code, said) = second.ends();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(world.gate.names(), ["a", "a"]);
}

#[test]
fn a_command_that_fails_is_run_by_each_build() {
    let Some(world) = World::new("a_command_that_fails_is_run_by_each_build") else { return };
    let context = world.context(&world.gate.run("a", "; exit 3"));
    let first = world.start(&context, &[]);
    assert_eq!(world.gate.next(), "a");
    let others = [(); 3].map(|()| world.start(&context, &[]));
    others.iter().for_each(|build| build.says(WAITS));
    world.gate.open();
    for build in others.into_iter().chain([first]) {
        let (code, said) = build.ends();
        assert!(code == Some(1) && said.contains("exit code: 3"), "{code:?} {said}");
    }
    assert_eq!(world.gate.names(), ["a"; 4]);
}

/// A secret is asked for of the build's own caller, and without a cache nothing is another's.
#[test]
fn what_is_a_builds_own_is_not_waited_for() {
    let Some(world) = World::new("what_is_a_builds_own_is_not_waited_for") else { return };
    let with_secret = world.gate.run("a", "> /a").replace("RUN", "RUN --mount=type=secret,id=none");
    for (line, more) in [(with_secret, &[][..]), (world.gate.run("b", "> /b"), &["--no-cache"])] {
        let context = world.context(&line);
        let running = [(); 2].map(|()| world.start(&context, more));
        // Both are held at once.
        assert_eq!(world.gate.next(), world.gate.next());
        for build in running {
            assert_eq!(build.ends_of(Signal::TERM), Some(130));
        }
    }
}
