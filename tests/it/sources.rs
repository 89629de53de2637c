//! ADD of sources on servers.

use fixtures::tar::{self, Entry, Kind};
use fixtures::web_server::{Asked, Page};
use fixtures::{Kiln, Run, WebServer};

use crate::repository::Repository;
use crate::{context_of, kiln, stat, text};

const TIME: &str = "Thu, 04 Mar 2021 05:06:07 GMT";
const SECONDS: i64 = 1_614_834_367;

struct Bench {
    kiln: Kiln,
    server: WebServer,
    place: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { kiln: kiln(), server: WebServer::start(), place: tempfile::tempdir().unwrap() }
    }

    fn page(&self, path: &str, body: &str, etag: &str) {
        let headers = vec![("ETag", etag.to_owned()), ("Last-Modified", TIME.to_owned())];
        self.server.put(path, Page { body: body.into(), headers, status: 0 });
    }

    /// Builds lines on `scratch`, with `@` replaced by the server's host.
    fn build(&self, lines: &str, flags: &[&str]) -> Run {
        let dockerfile = format!("FROM scratch\n{}", lines.replace('@', self.server.host()));
        let context = context_of(&[("Dockerfile", dockerfile.as_str())]);
        let output = format!("--output=type=tar,dest={}", text(&self.place.path().join("out.tar")));
        let metadata = format!("--metadata-file={}", text(&self.place.path().join("metadata")));
        let args = ["build", "--progress=plain", output.as_str(), metadata.as_str()];
        let context = text(context.path());
        self.kiln.run(args.iter().chain(flags).copied().chain([context.as_str()]))
    }

    fn files(&self) -> Vec<Entry> {
        let bytes = std::fs::read(self.place.path().join("out.tar")).unwrap();
        tar::read(&bytes).unwrap()
    }

    /// The number of steps that ran.
    fn ran(&self) -> u64 {
        stat(&self.place.path().join("metadata"), "ran")
    }

    #[track_caller]
    fn refuses(&self, lines: &str, flags: &[&str], words: &[&str]) {
        let run = self.build(lines, flags);
        assert!(run.refused(), "{lines}: exit code {:?}\n{}", run.code, run.stderr);
        for word in words {
            assert!(run.stderr.contains(word), "{lines}: no `{word}` in\n{}", run.stderr);
        }
    }
}

#[track_caller]
fn file<'a>(files: &'a [Entry], path: &str) -> &'a Entry {
    files.iter().find(|entry| entry.absolute() == path).unwrap_or_else(|| panic!("no {path}"))
}

fn statuses(asked: &[Asked]) -> Vec<u16> {
    asked.iter().map(|asked| asked.status).collect()
}

#[test]
fn a_download_is_asked_for_again_and_not_sent_again() {
    let bench = Bench::new();
    bench.page("/a%20b.txt?q=1", "one\n", "W/\"1\"");
    let lines = "ADD http://@/a%20b.txt?q=1 /dir/\n";
    bench.build(lines, &[]).expect_ok();
    let files = bench.files();
    let added = file(&files, "/dir/a b.txt");
    assert_eq!((&added.kind, added.mode), (&Kind::File(b"one\n".to_vec()), 0o600));
    assert_eq!((added.uid, added.gid, added.mtime), (0, 0, SECONDS));
    assert_eq!((bench.ran(), statuses(&bench.server.asked())), (1, vec![200]));

    // Real servers compare weak tags; this one does not, but its response has its tag.
    bench.build(lines, &[]).expect_ok();
    let asked = bench.server.asked();
    assert_eq!(asked[0].headers["if-none-match"], "\"1\"");
    assert_eq!((bench.ran(), asked.len()), (0, 1));

    bench.page("/a%20b.txt?q=1", "two\n", "\"2\"");
    bench.build(lines, &[]).expect_ok();
    assert_eq!((bench.ran(), statuses(&bench.server.asked())), (1, vec![200]));
    assert_eq!(file(&bench.files(), "/dir/a b.txt").kind, Kind::File(b"two\n".to_vec()));
    bench.build(lines, &["--no-cache"]).expect_ok();
    assert_eq!((bench.ran(), statuses(&bench.server.asked())), (1, vec![304]));
}

#[test]
fn a_pinned_download_is_known_beforehand() {
    let bench = Bench::new();
    bench.page("/x", "pinned\n", "\"1\"");
    let pin = fixtures::digest(b"pinned\n");
    let lines = format!("ADD --checksum={pin} --chmod=640 --chown=5:6 http://@/x /y\n");
    bench.build(&lines, &[]).expect_ok();
    let files = bench.files();
    let added = file(&files, "/y");
    assert_eq!((added.mode, added.uid, added.gid), (0o640, 5, 6));
    assert_eq!(statuses(&bench.server.asked()), [200]);
    bench.build(&lines, &[]).expect_ok();
    assert_eq!((bench.ran(), statuses(&bench.server.asked())), (0, vec![]));

    bench.page("/x", "other\n", "\"2\"");
    bench.kiln.empty_root();
    let other = fixtures::digest(b"other\n");
    bench.refuses(&lines, &[], &["digest mismatch", &pin, &other]);
}

#[test]
fn redirects_credentials_and_refusals() {
    let bench = Bench::new();
    let elsewhere = WebServer::start();
    elsewhere.put("/file", Page { body: b"far\n".to_vec(), ..Page::default() });
    let to =
        |place: String| Page { status: 302, headers: vec![("Location", place)], ..Page::default() };
    bench.server.put("/near", to("/far".into()));
    bench.server.put("/far", to(elsewhere.url("/file")));
    bench.server.put("/round", to("/round".into()));
    let secret = bench.place.path().join("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    let secret = format!("--secret=id=HTTP_AUTH_TOKEN_127.0.0.1,src={}", text(&secret));
    let run = bench.build("ADD http://@/near /f\n", &[&secret]).expect_ok();
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    let asked = bench.server.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|asked| asked.headers["authorization"] == "Bearer hunter2"));
    // Another port is another server, which gets no credentials.
    let asked = elsewhere.asked();
    assert!(asked.len() == 1 && !asked[0].headers.contains_key("authorization"));
    let files = bench.files();
    assert_eq!(
        (&file(&files, "/f").kind, file(&files, "/f").mtime),
        (&Kind::File(b"far\n".to_vec()), 0)
    );

    bench.refuses("ADD http://@/round /\n", &[], &["redirects for ever"]);
    bench.refuses("ADD http://@/none?sig=4711 /\n", &[], &["invalid response status 404", "/none"]);
}

#[test]
fn a_repository_is_known_by_its_commit() {
    let Some(repository) = Repository::new("repository") else { return };
    let bench = Bench::new();
    repository.serve(&bench.server);
    let first = repository.run(&["rev-parse", "v1^{}"]);

    bench.build("ADD http://@/r.git /src/\n", &[]).expect_ok();
    let files = bench.files();
    let a = file(&files, "/src/dir/a.txt");
    assert_eq!((&a.kind, a.mode, a.uid, a.gid), (&Kind::File(b"two\n".to_vec()), 0o644, 0, 0));
    assert_eq!(file(&files, "/src/run.sh").mode, 0o755);
    assert_eq!(file(&files, "/src/link").kind, Kind::Symlink("/etc/passwd".into()));
    assert!(!files.iter().any(|entry| entry.path.contains(".git")), "{files:?}");
    bench.build("ADD http://@/r.git#main /src/\n", &[]).expect_ok();
    assert_eq!(bench.ran(), 0, "the default branch by its name");

    bench.build("ADD http://@/r.git#v1:dir /src/\n", &[]).expect_ok();
    assert_eq!(file(&bench.files(), "/src/a.txt").kind, Kind::File(b"one\n".to_vec()));
    bench.server.asked();
    bench.build(&format!("ADD http://@/r.git#{first}:dir /src/\n"), &[]).expect_ok();
    assert_eq!((bench.ran(), bench.server.asked().len()), (0, 0), "a whole commit is its own key");

    let lines = format!("ADD --keep-git-dir --checksum={} http://@/r.git#v1 /src/\n", &first[..9]);
    bench.build(&lines, &[]).expect_ok();
    let head = Kind::File(format!("{first}\n").into_bytes());
    assert_eq!(file(&bench.files(), "/src/.git/HEAD").kind, head);

    std::fs::write(repository.work().join("dir/a.txt"), "three\n").unwrap();
    repository.commit();
    repository.serve(&bench.server);
    bench.build("ADD http://@/r.git /src/\n", &[]).expect_ok();
    assert_eq!(bench.ran(), 1);
    assert_eq!(file(&bench.files(), "/src/dir/a.txt").kind, Kind::File(b"three\n".to_vec()));
}

#[test]
fn a_repository_is_refused_with_a_reason() {
    let Some(repository) = Repository::new("repository_refused") else { return };
    let bench = Bench::new();
    repository.serve(&bench.server);
    bench.refuses("ADD http://@/r.git#none /\n", &[], &["does not contain ref none"]);
    bench.refuses("ADD http://@/r.git#--upload-pack=x /\n", &[], &["invalid git ref"]);
    bench.refuses("ADD http://@/r.git#main:link /\n", &[], &["git subpath \"link\""]);
    bench.refuses("ADD http://@/r.git#main:none /\n", &[], &["git subpath \"none\""]);
    bench.refuses("ADD http://@/other.git /\n", &[], &["/other.git", "ls-remote"]);
    let wrong = "ADD --checksum=0123456 http://@/r.git#main /\n";
    bench.refuses(wrong, &[], &["expected checksum to match 0123456"]);
}

#[test]
fn credentials_of_repositories_go_by_header() {
    let Some(repository) = Repository::new("repository_credentials") else { return };
    let bench = Bench::new();
    repository.serve(&bench.server);
    let secret = bench.place.path().join("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    let id = format!("GIT_AUTH_TOKEN.{}", bench.server.host());
    let secret = format!("--secret=id={id},src={}", text(&secret));
    let run = bench.build("ADD http://@/r.git /src/\n", &[&secret]).expect_ok();
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    // `x-access-token:hunter2`
    let expected = "basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMg==";
    let asked = bench.server.asked();
    assert!(!asked.is_empty());
    for asked in asked {
        assert_eq!(asked.headers.get("authorization").map(String::as_str), Some(expected));
    }
    let lines = "ADD http://@/none.git /src/\n";
    let run = bench.build(lines, &[&secret]);
    assert!(run.refused() && !run.stderr.contains("hunter2"), "{}", run.stderr);
}

fn redirect(to: String) -> Page {
    Page { status: 302, headers: vec![("Location", to)], ..Page::default() }
}

/// git's first request.
const FIRST: &str = "info/refs?service=git-upload-pack";

fn secret(bench: &Bench, id: &str) -> String {
    let file = bench.place.path().join("secret");
    std::fs::write(&file, "hunter2\n").unwrap();
    format!("--secret=id={id},src={}", text(&file))
}

/// The number of requests with `hunter2`, in plain text or in git's credentials.
fn told(asked: &[Asked]) -> usize {
    let forms = ["hunter2", "eC1hY2Nlc3MtdG9rZW46aHVudGVyMg==", "bWU6aHVudGVyMg=="];
    let has = |asked: &&Asked| {
        let header = asked.headers.get("authorization");
        header.is_some_and(|header| forms.iter().any(|form| header.contains(form)))
    };
    asked.iter().filter(has).count()
}

/// A token is for the host of the parsed URL, not for text that looks like a host.
#[test]
fn a_token_goes_to_the_host_of_the_parsed_address() {
    let bench = Bench::new();
    let page = Page { body: b"x".to_vec(), ..Page::default() };
    for path in ["/x", "/@trusted.example/x", "/?@trusted.example/x", "/", "/trusted.example/x"] {
        bench.server.put(path, page.clone());
    }
    let id = secret(&bench, "HTTP_AUTH_TOKEN_trusted.example");
    for address in [
        "http://HOST\\\\@trusted.example/x",
        "http://trusted.example@HOST/x",
        "http://trusted.example:80@HOST/x",
        "http://HOST?@trusted.example/x",
        "http://HOST/#@trusted.example/x",
        "http://HOST/trusted.example/x",
        "http:\\\\\\\\HOST\\\\@trusted.example\\\\x",
    ] {
        let address = address.replace("HOST", bench.server.host());
        let dockerfile = format!("FROM scratch\nADD {address} /f\n");
        let context = context_of(&[("Dockerfile", dockerfile.as_str())]);
        let run = bench.kiln.run(["build", "--no-cache", &id, &text(context.path())]);
        let asked = bench.server.asked();
        assert!(!asked.is_empty() || run.refused(), "{address}: {}", run.stderr);
        assert_eq!(told(&asked), 0, "{address}");
    }
    // The token's own host gets it.
    let id = secret(&bench, "HTTP_AUTH_TOKEN_127.0.0.1");
    bench.build("ADD http://@/x /f\n", &[&id, "--no-cache"]).expect_ok();
    assert_eq!(told(&bench.server.asked()), 1);
}

/// git sends its headers to the target of a redirect too, so it must not follow any.
#[test]
fn a_token_of_git_does_not_follow_a_redirect() {
    let Some(repository) = Repository::new("git_redirect") else { return };
    let (bench, other) = (Bench::new(), WebServer::start());
    repository.serve(&other);
    bench.server.put(&format!("/r.git/{FIRST}"), redirect(other.url(&format!("/r.git/{FIRST}"))));
    let id = format!("GIT_AUTH_TOKEN.{}", bench.server.host());
    let ids = [id.as_str(), "GIT_AUTH_TOKEN", "GIT_AUTH_HEADER"];
    for id in ids {
        let secret = secret(&bench, id);
        bench.build("ADD http://@/r.git /src/\n", &[&secret, "--no-cache"]).expect_ok();
        assert_eq!(file(&bench.files(), "/src/dir/a.txt").kind, Kind::File(b"two\n".to_vec()));
        let (first, second) = (bench.server.asked(), other.asked());
        assert!(told(&first) > 0 && !second.is_empty(), "{id}");
        assert_eq!(told(&second), 0, "{id}: {second:?}");
    }
    // The same holds for the user and password of the URL.
    let lines = format!("ADD http://me:hunter2@{}/r.git#v1 /src/\n", bench.server.host());
    let dockerfile = format!("FROM scratch\n{lines}");
    let context = context_of(&[("Dockerfile", dockerfile.as_str())]);
    bench.server.asked();
    bench.kiln.run(["build", "--no-cache", &text(context.path())]).expect_ok();
    assert!(told(&bench.server.asked()) > 0);
    assert_eq!(told(&other.asked()), 0);

    // The target of the redirect requires authentication; the error says why it gets none.
    let refusal = Page { status: 401, headers: vec![], ..Page::default() };
    other.put(&format!("/r.git/{FIRST}"), refusal);
    let secret = secret(&bench, "GIT_AUTH_TOKEN");
    let words = ["redirects to", other.host(), "not told"];
    bench.refuses("ADD http://@/r.git#v2 /src/\n", &[&secret], &words);
    assert_eq!(told(&other.asked()), 0);
}

/// A redirect within a server is treated like its target.
#[test]
fn a_token_of_git_stays_with_its_server() {
    let Some(repository) = Repository::new("git_moved") else { return };
    let bench = Bench::new();
    repository.serve(&bench.server);
    bench.server.put(&format!("/old.git/{FIRST}"), redirect(format!("/new.git/{FIRST}")));
    bench.server.put(&format!("/new.git/{FIRST}"), redirect(format!("/r.git/{FIRST}")));
    let secret = secret(&bench, "GIT_AUTH_TOKEN");
    bench.build("ADD http://@/old.git /src/\n", &[&secret]).expect_ok();
    assert_eq!(file(&bench.files(), "/src/dir/a.txt").kind, Kind::File(b"two\n".to_vec()));
    let asked = bench.server.asked();
    assert_eq!(told(&asked), asked.len(), "{asked:?}");

    // A redirect back from another server was chosen by that server.
    let other = WebServer::start();
    let back = bench.server.url(&format!("/r.git/{FIRST}"));
    other.put(&format!("/x.git/{FIRST}"), redirect(back));
    let away = other.url(&format!("/x.git/{FIRST}"));
    bench.server.put(&format!("/away.git/{FIRST}"), redirect(away));
    bench.build("ADD http://@/away.git /src/\n", &[&secret, "--no-cache"]).expect_ok();
    let asked = bench.server.asked();
    let of_repository = asked.iter().filter(|asked| asked.path.starts_with("/r.git/"));
    assert_eq!(told(&of_repository.cloned().collect::<Vec<_>>()), 0);
    assert_eq!(told(&other.asked()), 0);
}

/// A repository chooses its submodules, and with them the servers that git contacts.
#[test]
fn a_token_of_git_does_not_go_to_submodules_elsewhere() {
    let Some(repository) = Repository::new("git_submodule") else { return };
    let (bench, other) = (Bench::new(), WebServer::start());
    repository.serve(&other);
    let commit = repository.run(&["rev-parse", "HEAD"]);
    let modules = format!("[submodule \"sub\"]\n\tpath = sub\n\turl = {}\n", other.url("/r.git"));
    std::fs::write(repository.work().join(".gitmodules"), modules).unwrap();
    repository.run(&["add", ".gitmodules"]);
    repository.run(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},sub")]);
    repository.run(&["commit", "-q", "-m", "text"]);
    repository.serve(&bench.server);
    for id in ["GIT_AUTH_TOKEN", "GIT_AUTH_HEADER"] {
        let secret = secret(&bench, id);
        // A plain file server cannot serve a shallow submodule, but still gets the request.
        let run = bench.build("ADD http://@/r.git /src/\n", &[&secret, "--no-cache"]);
        let asked = other.asked();
        assert!(!asked.is_empty(), "{}", run.stderr);
        assert_eq!(told(&asked), 0, "{id}: {asked:?}");
        assert!(told(&bench.server.asked()) > 0, "{id}");
    }
}

/// A download or a repository whose server fails once.
#[test]
fn a_source_may_go_wrong_once() {
    use fixtures::FaultyProxy;
    use fixtures::PassingFault as Fault;
    let Some(repository) = Repository::new("source_faults") else { return };
    let server = WebServer::start();
    repository.serve(&server);
    server.put("/file", Page { body: vec![b'x'; 5000], ..Page::default() });
    let pin = fixtures::digest(&[b'x'; 5000]);
    let (proxy, kiln) = (FaultyProxy::start(server.host()), kiln());
    for line in [format!("ADD --checksum={pin} http://@/file /f"), "ADD http://@/r.git /r".into()] {
        let dockerfile = format!("FROM scratch\n{}\n", line.replace('@', proxy.host()));
        let context = context_of(&[("Dockerfile", dockerfile.as_str())]);
        let build = || kiln.run(["build", "--no-cache", "--progress=plain", &text(context.path())]);
        proxy.fail_after(usize::MAX, Fault::Reset);
        kiln.empty_root();
        build().expect_ok();
        let requests = proxy.asked().len();
        assert!(requests > 0);
        let mut faults = vec![Fault::Status(503, None), Fault::Reset];
        // Errors in the bodies of a plain file server are handled by git itself.
        if line.contains("checksum") {
            faults.extend([Fault::Cut, Fault::Garbled]);
        }
        for fault in faults {
            for count in 0..requests {
                kiln.empty_root();
                proxy.fail_after(count, fault);
                let run = build();
                assert!(run.ok(), "{line} {fault:?} {count}: {}", run.stderr);
                assert!(proxy.has_failed(), "{line} {fault:?} {count}");
            }
        }
    }
}
