//! SSH agents for RUN and for git.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fixtures::ssh_server::make_key;
use fixtures::tar::{self, Kind};
use fixtures::{Kiln, Run, SshServer};

use crate::repository::Repository;
use crate::{context_of, kiln, text};

/// OpenSSH's programs with their libraries, to be mounted into a RUN.
struct Tools {
    place: tempfile::TempDir,
    loader: String,
}

impl Tools {
    fn new(test: &str) -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let mut loader = None;
        for name in ["ssh-add", "ssh-keygen", "busybox"] {
            let program = crate::program(test, name)?;
            std::fs::copy(&program, place.path().join(name)).unwrap();
            let output = Command::new(crate::program(test, "ldd")?).arg(&program).output().unwrap();
            for word in String::from_utf8_lossy(&output.stdout).split_whitespace() {
                let Some(file) = Path::new(word).file_name().filter(|_| word.starts_with('/'))
                else {
                    continue;
                };
                std::fs::copy(word, place.path().join(file)).unwrap();
                if file.to_string_lossy().starts_with("ld-linux") {
                    loader = file.to_str().map(str::to_owned);
                }
            }
        }
        Some(Self { place, loader: loader.expect("OpenSSH's programs have libraries") })
    }
}

struct Bench {
    kiln: Kiln,
    tools: Tools,
    place: tempfile::TempDir,
}

impl Bench {
    fn new(test: &str) -> Option<Self> {
        let (kiln, place) = (kiln(), tempfile::tempdir().unwrap());
        Some(Self { kiln, tools: Tools::new(test)?, place })
    }

    /// Creates a key without passphrase.
    fn key(&self, name: &str, kind: &str) -> PathBuf {
        let path = self.place.path().join(name);
        make_key(&path, kind, "").unwrap();
        path
    }

    /// Runs a script with `flag` as its agent mount; `@add` and `@keygen` stand for OpenSSH's
    /// programs. None, with a skip, if no command can be run here.
    fn run(&self, test: &str, flag: &str, script: &str, flags: &[&str]) -> Option<Run> {
        let tool = |name: &str| format!("/t/{} --library-path /t /t/{name}", self.tools.loader);
        let script =
            script.replace("@add", &tool("ssh-add")).replace("@keygen", &tool("ssh-keygen"));
        let dockerfile = format!(
            "FROM scratch\n\
             COPY --from=tools busybox /bin/sh\n\
             COPY --from=tools busybox /bin/busybox\n\
             COPY <<EOF /etc/passwd\nroot:x:0:0::/w:/bin/sh\nEOF\n\
             WORKDIR /w\n\
             RUN --mount=type=bind,from=tools,target=/t --mount={flag} <<EOF\nset -e\n{script}\nEOF\n"
        );
        let context = context_of(&[("Dockerfile", &dockerfile)]);
        let tools = format!("--build-context=tools={}", text(self.tools.place.path()));
        let output = format!("--output=type=tar,dest={}", text(&self.out()));
        let fixed = ["build", "--progress=plain", "--no-cache", &tools, &output];
        let context = text(context.path());
        let run = self.kiln.run(fixed.iter().chain(flags).copied().chain([context.as_str()]));
        if run.stderr.contains("RUN is not possible here") {
            fixtures::skip(test, "RUN is not possible here");
            return None;
        }
        Some(run)
    }

    fn out(&self) -> PathBuf {
        self.place.path().join("out.tar")
    }

    fn file(&self, path: &str) -> String {
        let files = tar::read(&std::fs::read(self.out()).unwrap()).unwrap();
        match files.into_iter().find(|entry| entry.absolute() == path).map(|entry| entry.kind) {
            Some(Kind::File(bytes)) => String::from_utf8(bytes).unwrap(),
            other => panic!("{path}: {other:?}"),
        }
    }
}

/// The first two words of a public key file: its type and the key.
fn public(key: &Path) -> String {
    let mut path = key.as_os_str().to_owned();
    path.push(".pub");
    let line = std::fs::read_to_string(path).unwrap();
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn keys_of_files_sign_in_a_step() {
    let test = "keys_of_files_sign_in_a_step";
    let Some(bench) = Bench::new(test) else { return };
    let keys: Vec<PathBuf> =
        ["ed25519", "rsa", "ecdsa"].iter().map(|kind| bench.key(kind, kind)).collect();
    let list: Vec<String> = keys.iter().map(|key| text(key)).collect();
    let ssh = format!("--ssh=default={}", list.join(","));
    let publics: Vec<String> = keys.iter().map(|key| public(key)).collect();
    // Requests other than for keys and signatures are refused.
    let script = format!(
        "@add -L > keys\n\
         ! @add -D 2> refused\n\
         i=0\n\
         for key in {}; do\n\
           echo \"$key\" > key.pub\n\
           echo text | @keygen -q -Y sign -n test -f key.pub > sig.$i\n\
           i=$((i+1))\n\
         done",
        publics.iter().map(|key| format!("'{key}'")).collect::<Vec<_>>().join(" ")
    );
    let Some(run) = bench.run(test, "type=ssh", &script, &[&ssh]) else { return };
    run.expect_ok();
    let shown = bench.file("/w/keys");
    for public in &publics {
        assert!(shown.contains(public.as_str()), "no {public} in {shown}");
    }
    for index in 0..keys.len() {
        let signature = bench.place.path().join("signature");
        std::fs::write(&signature, bench.file(&format!("/w/sig.{index}"))).unwrap();
        let mut check = Command::new(fixtures::program("ssh-keygen").unwrap());
        check.args(["-q", "-Y", "check-novalidate", "-n", "test", "-s", &text(&signature)]);
        let message = bench.place.path().join("message");
        std::fs::write(&message, "text\n").unwrap();
        let status = check.stdin(std::fs::File::open(message).unwrap()).status().unwrap();
        assert!(status.success(), "signature {index}");
    }
    let files = tar::read(&std::fs::read(bench.out()).unwrap()).unwrap();
    let trace = |path: String| ["/run", "/t", "/tmp"].iter().any(|top| path.starts_with(top));
    assert!(!files.iter().any(|entry| trace(entry.absolute())), "{files:?}");
}

/// A running agent of OpenSSH, stopped when dropped.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(test: &str, folder: &Path) -> Option<Self> {
        let socket = folder.join("agent");
        let mut command = Command::new(crate::program(test, "ssh-agent")?);
        command.args(["-D", "-a"]).arg(&socket).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It prints its address once it listens.
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        Some(Self { child, socket })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn an_agent_is_asked_and_not_changed() {
    let test = "an_agent_is_asked_and_not_changed";
    let Some(bench) = Bench::new(test) else { return };
    let Some(agent) = Agent::start(test, bench.place.path()) else { return };
    let key = bench.key("key", "ed25519");
    let add = |args: &[&str]| {
        let mut command = Command::new(fixtures::program("ssh-add").unwrap());
        let output = command.args(args).env("SSH_AUTH_SOCK", &agent.socket).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    add(&["-q", &text(&key)]);
    let ssh = format!("--ssh=git={}", text(&agent.socket));
    let owner = if fixtures::is_root() { ",uid=3,gid=4" } else { "" };
    let flag = format!("type=ssh,id=git,target=/w/agent,mode=0620{owner},required");
    let script = "/bin/busybox ls -ln $SSH_AUTH_SOCK > place\n@add -L > keys\n! @add -D 2>/dev/null\n\
                  ! @add -x </dev/null 2>/dev/null";
    let Some(run) = bench.run(test, &flag, script, &[&ssh]) else { return };
    run.expect_ok();
    assert!(bench.file("/w/keys").starts_with(&public(&key)));
    assert!(add(&["-L"]).starts_with(&public(&key)), "the step removed it");
    let place = bench.file("/w/place");
    let ids = if fixtures::is_root() { [" 3 ", " 4 "] } else { [" 0 ", " 0 "] };
    assert!(place.starts_with("srw--w----") && ids.iter().all(|id| place.contains(id)), "{place}");

    // Without an agent, an optional mount is missing.
    let run = bench.run(test, "type=ssh,id=none", "[ ! -e $SSH_AUTH_SOCK ]", &[]).unwrap();
    run.expect_ok();
    let run = bench.run(test, "type=ssh,id=none,required", "true", &[&ssh]).unwrap();
    assert!(run.refused(), "{}", run.stderr);
    for words in ["Dockerfile:8", "unset ssh forward key none", "--ssh none"] {
        assert!(run.stderr.contains(words), "no `{words}` in\n{}", run.stderr);
    }
    let locked = bench.place.path().join("locked");
    make_key(&locked, "ed25519", "hunter2").unwrap();
    let ssh = format!("--ssh=default={}", text(&locked));
    let run = bench.run(test, "type=ssh", "true", &[&ssh]).unwrap();
    assert!(run.refused() && run.stderr.contains("passphrase"), "{}", run.stderr);
}

#[test]
fn git_over_ssh() {
    let test = "git_over_ssh";
    let Some(repository) = Repository::new(test) else { return };
    let server = match SshServer::start() {
        Ok(server) => server,
        Err(reason) => return fixtures::skip(test, &reason),
    };
    let (kiln, place) = (kiln(), tempfile::tempdir().unwrap());
    std::fs::write(repository.work().join("Dockerfile"), "FROM scratch\nCOPY dir /\n").unwrap();
    repository.commit();
    let url = server.url(&repository.work().join(".git"));
    let out = place.path().join("out.tar");
    let output = format!("--output=type=tar,dest={}", text(&out));
    let key = format!("--ssh=default={}", text(&server.key()));
    let build = |flags: &[&str]| {
        let fixed = ["build", "--progress=plain", output.as_str()];
        kiln.run(fixed.iter().chain(flags).copied().chain([url.as_str()]))
    };
    build(&[&key]).expect_ok();
    let files = tar::read(&std::fs::read(&out).unwrap()).unwrap();
    assert!(files.iter().any(|entry| entry.absolute() == "/a.txt"), "{files:?}");

    let run = build(&[]);
    assert!(run.refused() && run.stderr.contains("--ssh default"), "{}", run.stderr);
    let other = place.path().join("other");
    make_key(&other, "ed25519", "").unwrap();
    let run = build(&[&format!("--ssh=default={}", text(&other))]);
    assert!(run.refused() && run.stderr.contains("Permission denied"), "{}", run.stderr);

    // The key of a known host must match.
    let known_hosts = kiln.home().join(".ssh/known_hosts");
    std::fs::create_dir(kiln.home().join(".ssh")).unwrap();
    std::fs::write(&known_hosts, server.known_host(&server.host_key())).unwrap();
    build(&[&key]).expect_ok();
    let line = server.known_host(&PathBuf::from(format!("{}.pub", text(&other))));
    std::fs::write(&known_hosts, &line).unwrap();
    let run = build(&[&key]);
    assert!(run.refused() && run.stderr.contains("has changed"), "{}", run.stderr);
    assert_eq!(std::fs::read_to_string(&known_hosts).unwrap(), line, "it is not written to");
}
