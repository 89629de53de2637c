//! Contexts that are not folders of this machine.

use std::process::Command;

use fixtures::tar::{self, Entry, Kind};
use fixtures::web_server::Page;
use fixtures::{Inetd, Kiln, Run, WebServer};

use crate::repository::Repository;
use crate::{context_of, kiln, stat, text};

struct Bench {
    kiln: Kiln,
    server: WebServer,
    place: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { kiln: kiln(), server: WebServer::start(), place: tempfile::tempdir().unwrap() }
    }

    fn put(&self, path: &str, body: &[u8]) {
        self.server.put(path, Page { body: body.into(), ..Page::default() });
    }

    /// Builds with `//@/` replaced by the server's host.
    fn build(&self, args: &[&str], input: &[u8]) -> Run {
        // Files keep their times, even if the build has an epoch.
        let output = text(&self.place.path().join("out.tar"));
        let output = format!("--output=type=tar,source-date-epoch=,dest={output}");
        let metadata = format!("--metadata-file={}", text(&self.place.path().join("metadata")));
        let host = format!("//{}/", self.server.host());
        let args = args.iter().map(|arg| arg.replace("//@/", &host));
        let fixed = ["build", "--progress=plain", output.as_str(), metadata.as_str()];
        self.kiln.run_with_input(fixed.map(str::to_owned).into_iter().chain(args), input)
    }

    /// The files of the result.
    fn files(&self) -> Vec<Entry> {
        tar::read(&std::fs::read(self.place.path().join("out.tar")).unwrap()).unwrap()
    }

    /// The paths of the result, without folders.
    fn paths(&self) -> Vec<String> {
        let files = self.files().into_iter().filter(|entry| matches!(entry.kind, Kind::File(_)));
        files.map(|entry| entry.absolute()).collect()
    }

    fn ran(&self) -> u64 {
        stat(&self.place.path().join("metadata"), "ran")
    }

    #[track_caller]
    fn refuses(&self, args: &[&str], input: &[u8], words: &[&str]) {
        let run = self.build(args, input);
        assert!(run.refused(), "{args:?}: exit code {:?}\n{}", run.code, run.stderr);
        for word in words {
            assert!(run.stderr.contains(word), "{args:?}: no `{word}` in\n{}", run.stderr);
        }
    }
}

const DOCKERFILE: &str = "FROM scratch\nCOPY . /all/\n";

/// An archive with a Dockerfile, another one in a folder, and an ignore file that has no effect.
fn archive() -> Vec<u8> {
    let folder = context_of(&[
        ("Dockerfile", DOCKERFILE),
        ("dir/Other", "FROM scratch\nCOPY a.txt /other\n"),
        ("a.txt", "a\n"),
        (".dockerignore", "a.txt\n"),
    ]);
    let output = Command::new("tar")
        .args(["-C", &text(folder.path()), "--owner=7", "--group=8", "--mtime=@1600000000"])
        .args(["-cf", "-", "."])
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Compresses bytes with a program of the system; none if it is not installed.
fn compressed(program: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("archive");
    std::fs::write(&file, bytes).unwrap();
    let program = crate::program("archives_on_standard_input", program)?;
    let output = Command::new(program).arg("-c").arg(&file).output().unwrap();
    assert!(output.status.success());
    Some(output.stdout)
}

const ALL: [&str; 4] = ["/all/.dockerignore", "/all/Dockerfile", "/all/a.txt", "/all/dir/Other"];

#[test]
fn archives_on_standard_input() {
    let bench = Bench::new();
    let plain = archive();
    bench.build(&["-"], &plain).expect_ok();
    assert_eq!((bench.paths(), bench.ran()), (ALL.map(str::to_owned).to_vec(), 1));
    let files = bench.files();
    let copied = files.iter().find(|entry| entry.absolute() == "/all/a.txt").unwrap();
    // The metadata in an archive is used, owners included, as in BuildKit.
    assert_eq!((copied.uid, copied.gid, copied.mtime), (7, 8, 1_600_000_000));
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let Some(bytes) = compressed(program, &plain) else { continue };
        bench.build(&["-"], &bytes).expect_ok();
        assert_eq!((bench.paths(), bench.ran()), (ALL.map(str::to_owned).to_vec(), 0), "{program}");
    }
    bench.build(&["-f", "dir/Other", "-"], &plain).expect_ok();
    assert_eq!(bench.paths(), ["/other"]);
    bench.refuses(&["-f", "none", "-"], &plain, &["`none`", "no such file"]);
    bench.refuses(&["-f", "dir", "-"], &plain, &["read `dir`", "not a file"]);
    bench.refuses(&["-f", "-", "-"], &plain, &["both"]);
    // Each begins like an archive.
    bench.refuses(&["-"], b"\x1f\x8b\x08 and no more", &["context"]);
    bench.refuses(&["-"], &plain[..700], &["context"]);
}

#[test]
fn a_dockerfile_alone() {
    let bench = Bench::new();
    bench.build(&["-"], b"FROM scratch\nCOPY <<f /f\nx\nf\n").expect_ok();
    assert_eq!(bench.paths(), ["/f"]);
    let folder = context_of(&[("a.txt", "a\n"), (".dockerignore", "Dockerfile\n")]);
    let folder = text(folder.path());
    bench.build(&["-f", "-", &folder], DOCKERFILE.as_bytes()).expect_ok();
    assert_eq!(bench.paths(), ["/all/.dockerignore", "/all/a.txt"]);
    bench.put("/d/Dockerfile", DOCKERFILE.as_bytes());
    bench.build(&["-f", "http://@/d/Dockerfile", &folder], b"").expect_ok();
    assert_eq!((bench.paths().len(), bench.ran()), (2, 0));
    // The URL of a Dockerfile is a context with this file alone.
    bench.build(&["http://@/d/Dockerfile"], b"").expect_ok();
    assert_eq!(bench.paths(), ["/all/context"]);
    bench.refuses(&["-f", "x", "http://@/d/Dockerfile"], b"", &["a Dockerfile alone", "--file x"]);
    bench.refuses(&["-f", "http://@/none", &folder], b"", &["404", "/none"]);
}

#[test]
fn archives_of_a_server() {
    let bench = Bench::new();
    bench.put("/c", &archive());
    bench.build(&["http://@/c"], b"").expect_ok();
    assert_eq!((bench.paths(), bench.ran()), (ALL.map(str::to_owned).to_vec(), 1));
    bench.build(&["-f", "dir/Other", "http://@/c"], b"").expect_ok();
    assert_eq!(bench.paths(), ["/other"]);
    let own = context_of(&[("Own", "FROM scratch\nCOPY a.txt /own\n")]);
    bench.build(&["-f", &text(&own.path().join("Own")), "http://@/c"], b"").expect_ok();
    assert_eq!(bench.paths(), ["/own"]);
    bench.build(&["-f", "-", "http://@/c"], b"FROM scratch\nCOPY a.txt /piped\n").expect_ok();
    assert_eq!(bench.paths(), ["/piped"]);
    let url = "http://user:hunter2@@/none.tar?sig=4711".replacen("@@", "@AT", 1);
    let url = url.replace("@AT", &format!("@{}", bench.server.host()));
    let run = bench.kiln.run(["build", "--progress=plain", &url]);
    assert!(run.refused() && run.stderr.contains("404"), "{}", run.stderr);
    assert!(!run.stderr.contains("hunter2") && !run.stderr.contains("4711"), "{}", run.stderr);
}

#[test]
fn repositories() {
    let Some(repository) = Repository::new("contexts_of_repositories") else { return };
    let bench = Bench::new();
    let work = repository.work();
    std::fs::write(work.join("dockerfile"), DOCKERFILE).unwrap();
    std::fs::write(work.join("dir/Other"), "FROM scratch\nCOPY a.txt /other\n").unwrap();
    std::fs::write(work.join(".dockerignore"), "run.sh\n").unwrap();
    repository.commit();
    repository.serve(&bench.server);

    let all = [
        "/all/.dockerignore",
        "/all/dir/Other",
        "/all/dir/a.txt",
        "/all/dockerfile",
        "/all/run.sh",
    ];
    bench.build(&["http://@/r.git"], b"").expect_ok();
    assert_eq!((bench.paths(), bench.ran()), (all.map(str::to_owned).to_vec(), 1));
    bench.build(&["http://@/r.git?branch=main"], b"").expect_ok();
    assert_eq!(bench.ran(), 0);
    for context in ["http://@/r.git#main:dir", "http://@/r.git?ref=main&subdir=dir"] {
        bench.build(&["-f", "Other", context], b"").expect_ok();
        assert_eq!(bench.paths(), ["/other"]);
    }
    bench.build(&["-f", "-", "http://@/r.git#v1"], DOCKERFILE.as_bytes()).expect_ok();
    assert_eq!(bench.paths(), ["/all/dir/a.txt", "/all/run.sh"]);

    let keep = "--build-arg=BUILDKIT_CONTEXT_KEEP_GIT_DIR=1";
    bench.build(&[keep, "http://@/r.git"], b"").expect_ok();
    assert!(bench.paths().contains(&"/all/.git/HEAD".to_owned()), "{:?}", bench.paths());
    let committed: i64 = repository.run(&["log", "-1", "--format=%ct"]).parse().unwrap();
    // Times are not part of a key.
    bench.build(&["--no-cache", "http://@/r.git?mtime=commit"], b"").expect_ok();
    let files = bench.files();
    let file = files.iter().find(|entry| entry.absolute() == "/all/run.sh").unwrap();
    assert_eq!(file.mtime, committed);

    bench.refuses(&["http://@/r.git#none"], b"", &["build context", "does not contain ref none"]);
    bench.refuses(&["http://@/r.git?colour=red"], b"", &["unexpected query \"colour\""]);
    bench.refuses(&["-f", "none", "http://@/r.git"], b"", &["`none`"]);
}

/// A running `git daemon`, stopped when dropped.
struct Daemon {
    server: Inetd,
    place: tempfile::TempDir,
}

impl Daemon {
    fn start(test: &str) -> Option<Self> {
        let git = crate::program(test, "git")?;
        let place = tempfile::tempdir().unwrap();
        let base = place.path().to_owned();
        let server = Inetd::start(move || {
            let mut command = Command::new(&git);
            command
                .args(["daemon", "--inetd", "--export-all"])
                .arg(format!("--base-path={}", base.display()))
                .arg(&base)
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", "safe.directory")
                .env("GIT_CONFIG_VALUE_0", "*")
                .stderr(std::process::Stdio::null());
            command
        });
        Some(Self { server, place })
    }

    /// Serves a repository under a name.
    fn serve(&self, name: &str, repository: &Repository) {
        let bare = self.place.path().join(name);
        let _ = std::fs::remove_dir_all(&bare);
        repository.run(&["clone", "-q", "--mirror", ".", &text(&bare)]);
    }

    fn url(&self, path: &str) -> String {
        format!("git://{}/{path}", self.server.host())
    }
}

#[test]
fn repositories_by_everything_that_names_a_commit() {
    let test = "repositories_by_everything_that_names_a_commit";
    let (Some(daemon), Some(repository)) = (Daemon::start(test), Repository::new(test)) else {
        return;
    };
    let Some(module) = Repository::new(test) else { return };
    daemon.serve("module.git", &module);
    let first = repository.run(&["rev-parse", "v1^{}"]);
    std::fs::write(repository.work().join("Dockerfile"), DOCKERFILE).unwrap();
    repository.run(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        &text(&module.work()),
        "module",
    ]);
    let gitmodules = repository.work().join(".gitmodules");
    let lines = std::fs::read_to_string(&gitmodules).unwrap();
    let lines = lines.replace(&text(&module.work()), "../module.git");
    std::fs::write(&gitmodules, lines).unwrap();
    repository.commit();
    repository.run(&["update-ref", "refs/pull/7/head", "HEAD"]);
    let second = repository.run(&["rev-parse", "HEAD"]);
    std::fs::write(repository.work().join("dir/a.txt"), "three\n").unwrap();
    repository.commit();
    daemon.serve("r.git", &repository);

    let bench = Bench::new();
    let a = |bench: &Bench| {
        let files = bench.files();
        let file = files.iter().find(|entry| entry.absolute() == "/all/dir/a.txt").unwrap();
        file.kind.clone()
    };
    let kind = |text: &str| Kind::File(text.into());
    for (end, expected) in [
        ("", "three\n"),
        ("#refs/heads/main", "three\n"),
        ("#pull/7/head", "two\n"),
        ("?ref=refs/pull/7/head", "two\n"),
        (&format!("#{second}"), "two\n"),
        (&format!("?commit={second}&fetch-by-commit=1&ref=nowhere"), "two\n"),
        (&format!("?checksum={}&ref=refs/pull/7/head", &second[..10]), "two\n"),
    ] {
        bench.build(&[&daemon.url(&format!("r.git{end}"))], b"").expect_ok();
        assert_eq!(a(&bench), kind(expected), "{end}");
        assert!(bench.paths().contains(&"/all/module/run.sh".to_owned()), "{end}");
    }
    for (end, expected) in [("#v1", "one\n"), ("?tag=v1", "one\n"), (&format!("#{first}"), "one\n")]
    {
        let url = daemon.url(&format!("r.git{end}"));
        bench.build(&["-f", "-", &url], DOCKERFILE.as_bytes()).expect_ok();
        assert_eq!(a(&bench), kind(expected), "{end}");
    }
    bench.build(&[&daemon.url("r.git?submodules=0")], b"").expect_ok();
    assert!(!bench.paths().iter().any(|path| path.starts_with("/all/module/")));

    for (end, words) in [
        ("?tag=nope", "does not contain ref refs/tags/nope"),
        ("?commit=1234567&fetch-by-commit", "requires a full commit SHA"),
        ("?fetch-by-commit&ref=main", "requires a checksum"),
        (&format!("?ref=main&commit={first}"), "expected checksum to match"),
        (&format!("#{}", "0".repeat(40)), "no commit 0000"),
    ] {
        bench.refuses(&[&daemon.url(&format!("r.git{end}"))], b"", &["build context", words]);
    }
    // A failing step reports its line.
    let lines = format!("FROM scratch\nADD {} /x\n", daemon.url("r.git#nope"));
    bench.refuses(&["-"], lines.as_bytes(), &["Dockerfile:2", "ADD git://", "ref nope"]);
    let lines = "FROM scratch\n\nADD http://@/none /x\n".replace('@', bench.server.host());
    bench.refuses(&["-"], lines.as_bytes(), &["Dockerfile:3", "ADD http", "404"]);
}

#[test]
fn contexts_with_names() {
    let test = "contexts_with_names";
    let (Some(daemon), Some(repository)) = (Daemon::start(test), Repository::new(test)) else {
        return;
    };
    daemon.serve("r.git", &repository);
    let bench = Bench::new();
    bench.put("/file", b"from the web\n");
    let folder = context_of(&[("a", "a\n"), ("skip", "s\n"), (".dockerignore", "skip\n")]);
    let lines = "FROM scratch AS replaced\nCOPY none /none\n\
                 FROM base\nCOPY --from=folder . /folder/\nCOPY --from=web / /web/\n\
                 COPY --from=repository dir /git/\nCOPY --from=replaced a /replaced\n";
    let layout = bench.place.path().join("layout");
    let base = context_of(&[("Dockerfile", "FROM scratch\nENV A=b\nCOPY f /f\n"), ("f", "f\n")]);
    let output = format!("--output=type=oci,dest={},tar=false,name=base:1", text(&layout));
    bench.kiln.run(["build", "--quiet", &output, &text(base.path())]).expect_ok();
    let folder = text(folder.path());
    let flags = |base: &str| {
        [
            ("base", base),
            ("folder", &folder),
            ("web", "http://@/file"),
            ("repository", &daemon.url("r.git#v1")),
            ("replaced", &folder),
        ]
        .map(|(name, value)| format!("--build-context={name}={value}"))
    };
    let build = |base: &str| {
        let flags = flags(base);
        let mut args: Vec<&str> = flags.iter().map(String::as_str).collect();
        args.push("-");
        bench.build(&args, lines.as_bytes())
    };
    let expected =
        ["/f", "/folder/.dockerignore", "/folder/a", "/git/a.txt", "/replaced", "/web/context"];
    let at = |rest: &str| format!("oci-layout://{}{rest}", text(&layout));
    let index = std::fs::read_to_string(layout.join("index.json")).unwrap();
    let digest = index.split("\"digest\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    for base in [at(":1"), at(""), at(&format!("@{digest}")), at(&format!(":x@{digest}"))] {
        build(&base).expect_ok();
        assert_eq!(bench.paths(), expected, "{base}");
    }
    assert_eq!(bench.ran(), 0);
    // The base is replaced by an image of the store, and then for one platform only.
    build("docker-image://base:1");
    let other = "--build-context=base::linux/s390x=none-of-ours";
    let run = bench.build(&[other, "-"], b"FROM base\n");
    assert!(run.refused(), "{}", run.stderr);
    let host = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let by_platform = format!("--build-context=base::linux/{host}={}", at(":1"));
    let wrong = format!("--build-context=base={folder}");
    bench.build(&[&by_platform, &wrong, "-"], b"FROM base\n").expect_ok();
    assert_eq!(bench.paths(), ["/f"]);

    for (value, words) in [
        (
            at("@sha256:0000000000000000000000000000000000000000000000000000000000000000"),
            "blobs/sha256",
        ),
        ("http://@/none".to_owned(), "404"),
        (daemon.url("r.git#nope"), "ref nope"),
    ] {
        let flag = format!("--build-context=x={value}");
        let run = bench.build(&[&flag, "-"], b"FROM scratch\nCOPY --from=x / /\n");
        assert!(run.refused() && run.stderr.contains(words), "{value}: {}", run.stderr);
        assert!(run.stderr.contains("Dockerfile:2"), "{value}: {}", run.stderr);
    }
}
