//! Containers: by Debian's docker client and a service, and by kiln's own `docker` without one.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use fixtures::Kiln;
use rustix::process::Signal;

use crate::serve::{Service, classic_client};
use crate::{context_of, kiln, program};

/// The time that a service has for what it should do at once, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// An image with busybox alone.
const DOCKERFILE: &str = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
    ENV A=image B=image\nWORKDIR /home\nCOPY hello /data/hello\nCMD [\"sh\", \"-c\", \"echo usual\"]\n";

/// Docker's client with a service, or kiln's own.
enum Side {
    Service { service: Box<Service>, client: PathBuf },
    Own(Kiln),
}

impl Side {
    /// A service with docker's client, or a skip.
    fn service(test: &str, args: &[&str]) -> Option<Self> {
        let client = classic_client(test)?;
        Self::with_image(
            Self::Service { service: Box::new(Service::start(args)), client },
            test,
            args,
        )
    }

    /// kiln's own `docker`, or a skip.
    fn own(test: &str) -> Option<Self> {
        Self::with_image(Self::Own(kiln()), test, &[])
    }

    fn with_image(side: Self, test: &str, args: &[&str]) -> Option<Self> {
        let busybox = program(test, "busybox")?;
        let context = context_of(&[("Dockerfile", DOCKERFILE), ("hello", "hello")]);
        fs::copy(busybox, context.path().join("busybox")).unwrap();
        fs::set_permissions(context.path().join("busybox"), fs::Permissions::from_mode(0o755))
            .unwrap();
        let folder = context.path().display().to_string();
        let isolation = args.iter().find(|arg| arg.starts_with("--isolation"));
        let mut words = vec!["build", "-q", "-t", "box:1", &folder];
        words.extend(isolation);
        side.kiln().run(words).expect_ok();
        Some(side)
    }

    fn kiln(&self) -> &Kiln {
        match self {
            Self::Service { service, .. } => &service.kiln,
            Self::Own(kiln) => kiln,
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        match self {
            Self::Service { service, client } => service.client(client, args),
            Self::Own(kiln) => kiln.command([&["docker"], args].concat()),
        }
    }

    fn output(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// The output of a command that succeeds.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "docker {args:?}: {out}{err}{}", self.log());
        out
    }

    /// The exit code and the errors of a command.
    fn failed(&self, args: &[&str]) -> (i32, String) {
        let output = self.output(args);
        let said = text(&output.stdout) + &text(&output.stderr);
        (output.status.code().unwrap_or(-1), said)
    }

    /// The output of a command that is given some input.
    fn fed(&self, args: &[&str], input: &str) -> String {
        let mut command = self.command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "docker {args:?}: {}", self.log());
        text(&output.stdout)
    }

    fn log(&self) -> String {
        match self {
            Self::Service { service, .. } => service.log(),
            Self::Own(_) => String::new(),
        }
    }

    fn expect_service(&mut self) -> &mut Service {
        match self {
            Self::Service { service, .. } => service,
            Self::Own(_) => panic!("there is a service"),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until something is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it does not come to that: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A number of seconds to sleep that no other test uses.
fn seconds() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    (100_000 + std::process::id() % 9_000 * 100 + number).to_string()
}

/// True if a process sleeps for so many seconds.
fn sleeps(seconds: &str) -> bool {
    // The whole line: a client's ends so too.
    let whole = format!("sleep\0{seconds}\0");
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == whole.as_bytes())
    })
}

/// Commands with their output and exit code: the same on both sides.
fn runs(side: &Side) {
    assert_eq!(side.ok(&["run", "--rm", "box:1"]), "usual\n");
    let line = "echo out; echo $A-$B-$C $PWD; echo err >&2; exit 3";
    let run = ["run", "--name", "first", "-e", "B=own", "-e", "C=d", "-w", "/data", "box:1"];
    let output = side.output(&[&run[..], &["sh", "-c", line]].concat());
    assert_eq!(text(&output.stdout), "out\nimage-own-d /data\n", "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("err\n"));
    assert_eq!(output.status.code(), Some(3));
    let logs = side.output(&["logs", "first"]);
    assert_eq!(text(&logs.stdout), "out\nimage-own-d /data\n");
    assert!(text(&logs.stderr).contains("err\n"));
    let last = side.output(&["logs", "--tail", "1", "first"]);
    let last = text(&last.stdout) + &text(&last.stderr);
    assert_eq!(last.lines().count(), 1, "one of two streams: {last}");
    assert!(side.ok(&["logs", "-t", "first"]).contains("T"));
    assert_eq!(side.ok(&["wait", "first"]), "3\n");
    let state = side.ok(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "first"]);
    assert_eq!(state, "exited 3\n");
    assert!(!side.ok(&["ps"]).contains("first"));
    assert!(side.ok(&["ps", "-a"]).contains("first"));
    let (code, said) = side.failed(&["run", "--rm", "--name", "first", "box:1"]);
    assert!(code == 125 && said.contains("already in use"), "{code} {said}");
    // An own command, and an entrypoint that takes the image's command away.
    assert_eq!(side.ok(&["run", "--rm", "--entrypoint", "echo", "box:1", "a", "b"]), "a b\n");
    assert_eq!(side.ok(&["run", "--rm", "--entrypoint", "echo", "box:1"]), "\n");
    // A user namespace of one user has no others.
    if rustix::process::geteuid().is_root() {
        assert_eq!(side.ok(&["run", "--rm", "-u", "7:8", "box:1", "id", "-u"]), "7\n");
    }
    assert_eq!(side.ok(&["run", "--rm", "-h", "myhost", "box:1", "hostname"]), "myhost\n");
    assert_eq!(side.ok(&["run", "--rm", "-t", "box:1", "echo", "terminal"]), "terminal\r\n");
    assert_eq!(side.fed(&["run", "--rm", "-i", "box:1", "cat"], "in\nput"), "in\nput");
    let (code, said) = side.failed(&["run", "--rm", "box:1", "no-such-program"]);
    assert!(code == 127 && said.contains("not found"), "{code} {said}");
    let (code, said) = side.failed(&["run", "--rm", "box:1", "/data"]);
    assert!(code == 126 && said.contains("permission denied"), "{code} {said}");
    assert_eq!(side.ok(&["rm", "first"]), "first\n");
    let (code, said) = side.failed(&["rm", "first"]);
    assert!(code == 1 && said.contains("No such container: first"), "{code} {said}");
    assert_eq!(side.ok(&["ps", "-aq"]), "", "what `--rm` had is gone");
}

/// Files in and out of containers, by docker's rules.
fn copies(side: &Side) {
    let folder = tempfile::tempdir().unwrap();
    let local = |name: &str| folder.path().join(name).display().to_string();
    let id = side.ok(&["create", "--name", "files", "box:1"]);
    assert_eq!(id.trim().len(), 64);
    side.ok(&["cp", "files:/data/hello", &local("file")]);
    assert_eq!(fs::read_to_string(local("file")).unwrap(), "hello");
    side.ok(&["cp", "files:/data", &local("new")]);
    assert_eq!(fs::read_to_string(local("new/hello")).unwrap(), "hello");
    fs::create_dir(local("into")).unwrap();
    side.ok(&["cp", "files:/data", &local("into")]);
    assert_eq!(fs::read_to_string(local("into/data/hello")).unwrap(), "hello");
    side.ok(&["cp", "files:/data/.", &local("into")]);
    assert_eq!(fs::read_to_string(local("into/hello")).unwrap(), "hello");
    let archive = side.output(&["cp", "files:/data", "-"]).stdout;
    assert!(archive.starts_with(b"data/"), "{}", text(&archive));

    fs::create_dir(local("source")).unwrap();
    fs::write(local("source/a"), "a").unwrap();
    symlink("a", local("source/link")).unwrap();
    side.ok(&["cp", &local("source"), "files:/data"]);
    side.ok(&["cp", &local("source/."), "files:/home"]);
    side.ok(&["cp", &local("source/a"), "files:/home/renamed"]);
    side.ok(&["cp", "files:/data/source", &local("back")]);
    assert_eq!(fs::read_link(local("back/link")).unwrap(), Path::new("a"));
    side.ok(&["cp", "files:/home/renamed", &local("renamed")]);
    assert_eq!(fs::read_to_string(local("renamed")).unwrap(), "a");
    let (code, said) = side.failed(&["cp", "files:/none", &local("none")]);
    assert!(code != 0 && said.contains("/none"), "{said}");
    let (code, said) = side.failed(&["cp", &local("source"), "files:/data/hello"]);
    assert!(code != 0 && said.contains("directory"), "{said}");
    side.ok(&["rm", "files"]);
}

/// Changes of a container are there when it is started again.
fn starts_again(side: &Side) {
    let line = "cat /kept; echo more >> /kept";
    side.ok(&["run", "--name", "again", "box:1", "sh", "-c", "touch /kept; echo one > /kept"]);
    side.ok(&["rm", "again"]);
    side.ok(&["create", "--name", "again", "box:1", "sh", "-c", line]);
    let (code, _) = side.failed(&["start", "-a", "again"]);
    assert_eq!(code, 0);
    assert_eq!(side.ok(&["start", "-a", "again"]), "more\n");
    assert_eq!(side.ok(&["start", "-a", "again"]), "more\nmore\n");
    side.ok(&["rm", "again"]);
}

/// Folders of the machine.
fn binds(side: &Side, granted: &Path) {
    let source = granted.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("in"), "in").unwrap();
    let bind = format!("{}:/w", source.display());
    let line = "cat in; echo out > out";
    assert_eq!(side.ok(&["run", "--rm", "-v", &bind, "-w", "/w", "box:1", "sh", "-c", line]), "in");
    assert_eq!(fs::read_to_string(source.join("out")).unwrap(), "out\n");
    let readonly = format!("{bind}:ro");
    let (code, _) = side.failed(&["run", "--rm", "-v", &readonly, "box:1", "touch", "/w/x"]);
    assert_eq!(code, 1);
    assert!(!source.join("x").exists());
    // A folder that is missing is made.
    let made = format!("{}:/w", granted.join("made").display());
    side.ok(&["run", "--rm", "-v", &made, "box:1", "touch", "/w/x"]);
    assert!(granted.join("made/x").exists());
    assert_eq!(side.ok(&["ps", "-aq"]), "");
}

#[test]
fn containers_without_a_service() {
    let Some(side) = Side::own("containers_without_a_service") else { return };
    runs(&side);
    copies(&side);
    starts_again(&side);
    // On the file system of the root, where nothing can be mounted either.
    let folder = tempfile::tempdir_in(side.kiln().home()).unwrap();
    binds(&side, folder.path());
    let own_root = format!("{}:/w", side.kiln().root().display());
    let (code, said) = side.failed(&["run", "--rm", "-v", &own_root, "box:1"]);
    assert!(code == 125 && said.contains("kiln's root"), "{said}");
    for words in [&["run", "-d", "box:1"][..], &["exec", "x", "sh"], &["attach", "x"]] {
        let (code, said) = side.failed(words);
        assert!(code != 0 && said.contains("kiln serve"), "{words:?}: {said}");
    }
}

#[test]
fn containers_without_a_service_where_nothing_can_be_mounted() {
    let test = "containers_without_a_service_where_nothing_can_be_mounted";
    if !rustix::process::geteuid().is_root() {
        return fixtures::skip(test, "it needs root");
    }
    let side = Side::Own(kiln());
    let Some(side) = Side::with_image(side, test, &["--isolation=chroot"]) else { return };
    let run = |args: &[&str]| {
        let mut command = side.command(args);
        command.env("KILN_ISOLATION", "chroot").stdin(Stdio::null());
        command.output().unwrap()
    };
    let line = "echo made > /made; cat /data/hello; exit 4";
    let output = run(&["run", "--name", "plain", "box:1", "sh", "-c", line]);
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("hello", Some(4)));
    let copied = run(&["cp", "plain:/made", "-"]);
    assert!(text(&copied.stdout).contains("made"), "{}", text(&copied.stderr));
    assert!(run(&["rm", "plain"]).status.success());
}

#[test]
fn containers_of_a_service() {
    let Some(side) = Side::service("containers_of_a_service", &[]) else { return };
    runs(&side);
    copies(&side);
    starts_again(&side);
    let (code, said) = side.failed(&["run", "--rm", "-v", "/etc:/w", "box:1"]);
    assert!(code == 125 && said.contains("--allow-bind"), "{said}");
    let (code, said) = side.failed(&["run", "--rm", "--privileged", "box:1"]);
    assert!(code == 125 && said.contains("security.insecure"), "{said}");
    background(&side);
}

#[test]
fn containers_of_a_service_where_nothing_can_be_mounted() {
    let test = "containers_of_a_service_where_nothing_can_be_mounted";
    if !rustix::process::geteuid().is_root() {
        return fixtures::skip(test, "it needs root");
    }
    let Some(side) = Side::service(test, &["--isolation=chroot"]) else { return };
    runs(&side);
    copies(&side);
    starts_again(&side);
    background(&side);
}

/// Containers that run behind the client.
fn background(side: &Side) {
    let seconds = seconds();
    let line = format!("echo begun; touch /live; sleep {seconds}");
    let id = side.ok(&["run", "-d", "--name", "behind", "box:1", "sh", "-c", &line]);
    until("it runs", || sleeps(&seconds));
    assert!(side.ok(&["ps", "-q", "--no-trunc"]).contains(id.trim()));
    until("it says so", || side.ok(&["logs", "behind"]) == "begun\n");
    assert!(side.ok(&["top", "behind"]).contains(&seconds));
    assert_eq!(
        side.ok(&["exec", "-w", "/data", "-e", "X=y", "behind", "sh", "-c", "cat hello; echo $X"]),
        "helloy\n"
    );
    assert_eq!(side.failed(&["exec", "behind", "sh", "-c", "exit 5"]).0, 5);
    assert_eq!(side.fed(&["exec", "-i", "behind", "cat"], "input"), "input");
    // Files of a container that runs.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "given").unwrap();
    side.ok(&["cp", &file.display().to_string(), "behind:/data/given"]);
    assert_eq!(side.ok(&["exec", "behind", "cat", "/data/given"]), "given");
    let out = folder.path().join("out");
    side.ok(&["cp", "behind:/data", &out.display().to_string()]);
    assert_eq!(fs::read_to_string(out.join("given")).unwrap(), "given");
    let (code, said) = side.failed(&["rm", "behind"]);
    assert!(code == 1 && said.contains("running"), "{said}");
    side.ok(&["rename", "behind", "renamed"]);
    side.ok(&["stop", "-t", "0", "renamed"]);
    assert!(!sleeps(&seconds));
    // The kernel keeps SIGTERM from the first process of namespaces, which is killed then.
    assert!(["137\n", "143\n"].contains(&side.ok(&["wait", "renamed"]).as_str()));
    // Changes of the run are kept.
    side.ok(&["cp", "renamed:/live", &folder.path().join("live").display().to_string()]);
    assert!(side.ok(&["diff", "renamed"]).contains("A /live"));
    side.ok(&["rm", "renamed"]);
}

#[test]
fn granted_folders_are_bound_and_no_others() {
    let test = "granted_folders_are_bound_and_no_others";
    let granted = tempfile::tempdir_in("/tmp").unwrap();
    let outside = tempfile::tempdir_in("/tmp").unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let flag = format!("--allow-bind={}", granted.path().display());
    let Some(side) = Side::service(test, &[&flag]) else { return };
    binds(&side, granted.path());
    // Links are resolved inside of what is granted.
    symlink(outside.path(), granted.path().join("link")).unwrap();
    for source in ["link", "link/secret", "../../../../etc", "."] {
        let bind = format!("{}:/w", granted.path().join(source).display());
        let said = side.failed(&["run", "--rm", "-v", &bind, "box:1", "cat", "/w/secret", "/w"]).1;
        assert!(!said.lines().any(|line| line == "secret"), "{source}: {said}");
    }
}

/// A container that was made without a service has the rights of who made it, which a service's clients have not.
#[test]
fn rights_that_a_service_does_not_grant_are_refused_at_the_start() {
    let test = "rights_that_a_service_does_not_grant_are_refused_at_the_start";
    for (args, is_granted) in
        [(&[][..], false), (&["--allow-insecure-entitlement=security.insecure"][..], true)]
    {
        let Some(side) = Side::service(test, args) else { return };
        let made = ["docker", "create", "--privileged", "--name", "free", "box:1"];
        side.kiln().run(made).expect_ok();
        if is_granted {
            assert_eq!(side.ok(&["start", "-a", "free"]), "usual\n");
        } else {
            let (code, said) = side.failed(&["start", "free"]);
            assert!(code == 1 && said.contains("`--privileged` is not granted"), "{code}: {said}");
        }
    }
}

#[test]
fn a_client_that_vanishes_leaves_the_container_running() {
    let test = "a_client_that_vanishes_leaves_the_container_running";
    let Some(side) = Side::service(test, &[]) else { return };
    let seconds = seconds();
    let run = ["run", "--rm", "--name", "left", "box:1", "sleep", &seconds];
    let mut client = side.command(&run).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    until("it runs", || sleeps(&seconds));
    client.kill().unwrap();
    client.wait().unwrap();
    until("it is listed", || side.ok(&["ps", "--format", "{{.Names}}"]).contains("left"));
    assert!(sleeps(&seconds));
    side.ok(&["rm", "-f", "left"]);
    until("it is gone", || !sleeps(&seconds));
    assert_eq!(side.ok(&["ps", "-aq"]), "");
}

#[test]
fn a_service_that_is_killed_leaves_nothing_running() {
    let test = "a_service_that_is_killed_leaves_nothing_running";
    let Some(mut side) = Side::service(test, &[]) else { return };
    let (of_container, of_exec) = (seconds(), seconds());
    side.ok(&["run", "-d", "--name", "lost", "box:1", "sleep", &of_container]);
    side.ok(&["exec", "-d", "lost", "sleep", &of_exec]);
    until("both run", || sleeps(&of_container) && sleeps(&of_exec));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let service = side.expect_service();
    let root = service.kiln.root();
    assert!(!mounts.contains(root.to_str().unwrap()), "no mount is seen outside");
    service.child.kill().unwrap();
    service.child.wait().unwrap();
    until("nothing is left", || !sleeps(&of_container) && !sleeps(&of_exec));
    // The next process finds a container that has ended.
    let state = service.kiln.run([
        "docker",
        "inspect",
        "-f",
        "{{.State.Status}} {{.State.ExitCode}}",
        "lost",
    ]);
    assert_eq!(state.expect_ok().stdout, "exited 137\n");
    service.kiln.run(["docker", "rm", "lost"]).expect_ok();
}

#[test]
fn a_service_that_ends_stops_its_containers() {
    let test = "a_service_that_ends_stops_its_containers";
    let Some(mut side) = Side::service(test, &["--shutdown-timeout=20s"]) else { return };
    let line = "trap 'echo stopped > /ended; exit 6' TERM; echo ready; while :; do sleep 0.1; done";
    side.ok(&["run", "-d", "--name", "ending", "box:1", "sh", "-c", line]);
    until("it is ready", || side.ok(&["logs", "ending"]) == "ready\n");
    let service = side.expect_service();
    service.signal(Signal::TERM);
    assert!(service.child.wait().unwrap().success(), "{}", service.log());
    let kiln = &service.kiln;
    let state = kiln.run(["docker", "inspect", "-f", "{{.State.ExitCode}}", "ending"]);
    assert_eq!(state.expect_ok().stdout, "6\n");
    let copied = kiln.run(["docker", "cp", "ending:/ended", "-"]).expect_ok();
    assert!(copied.stdout.contains("stopped"), "{}", copied.stdout);
}
