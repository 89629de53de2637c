//! Bad input: one clear sentence that names the thing, exit code 1, nothing pushed, and a root that
//! the next build can use.

use fixtures::docker_registry::{PASSWORD, USER};
use fixtures::{Access, DockerRegistry, Kiln};

use crate::{context_of, kiln, registry, text};

const GOOD: &str = "FROM scratch\nCOPY a.txt /\n";

struct Bench {
    kiln: Kiln,
    registry: DockerRegistry,
}

impl Bench {
    fn new(test: &str, access: Access) -> Option<Self> {
        Some(Self { kiln: kiln(), registry: registry(test, access)? })
    }

    /// Builds a Dockerfile and pushes it, with `@` replaced by the registry's host.
    fn build(&self, dockerfile: &str, flags: &[&str]) -> fixtures::Run {
        let host = self.registry.host();
        let dockerfile = dockerfile.replace('@', host);
        let context = context_of(&[("Dockerfile", dockerfile.as_str()), ("a.txt", "alpha\n")]);
        let (tag, context_path) = (format!("{host}/app:1"), text(context.path()));
        let args = ["build", "--progress", "plain", "-t", &tag, "--push"];
        self.kiln.run(args.iter().chain(flags).copied().chain([context_path.as_str()]))
    }

    /// Expects a refusal that contains each of `words`, and no push.
    #[track_caller]
    fn refuses(&self, dockerfile: &str, flags: &[&str], words: &[&str]) {
        let run = self.build(dockerfile, flags);
        assert!(run.refused(), "{dockerfile}: exit code {:?}\n{}", run.code, run.stderr);
        for word in words {
            let word = word.replace('@', self.registry.host());
            assert!(run.stderr.contains(&word), "{dockerfile}: no `{word}` in\n{}", run.stderr);
        }
        let pushed = |line: &fixtures::docker_registry::LogLine| {
            line.method == "PUT"
                && line.path.starts_with("/v2/app/manifests/")
                && line.status == 201
        };
        assert!(!self.registry.log().iter().any(pushed), "{dockerfile}: something was pushed");
        assert!(!run.stderr.contains(PASSWORD), "the password was printed");
    }
}

#[test]
fn each_names_what_is_wrong() {
    let Some(bench) = Bench::new("refusals", Access::Open) else { return };
    bench.refuses("FROM scratch\nCOPPY a.txt /\n", &[], &["COPPY", "COPY", "Dockerfile:2"]);
    bench.refuses("FROM scratch\nCOPY b.txt /\n", &[], &["b.txt", "Dockerfile:2"]);
    bench.refuses("FROM scratch AS one\nCOPY a.txt /\n", &["--target", "two"], &["two"]);
    bench.refuses("FROM @/no/such:image\n", &[], &["@/no/such:image", "Dockerfile:1"]);
    bench.refuses(GOOD, &["--cache-to", "type=ftp"], &["ftp"]);
    bench.refuses(GOOD, &["--file", "no-such-file"], &["no-such-file"]);
    bench.refuses("FROM scratch\nRUN --mount=type=nothing true\n", &[], &["nothing"]);
    bench.build(GOOD, &[]).expect_ok();
}

#[test]
fn wrong_credentials() {
    let Some(bench) = Bench::new("wrong_credentials", Access::Password) else { return };
    let host = bench.registry.host().to_owned();
    let login = bench
        .kiln
        .run_with_input(["login", "-u", USER, "--password-stdin", &host], b"not-the-password");
    assert!(login.refused(), "{}", login.stderr);
    assert!(
        login.stderr.contains(&host) && !login.stderr.contains("not-the-password"),
        "{}",
        login.stderr
    );
    bench.refuses("FROM @/library/busybox\n", &[], &["@/library/busybox"]);
    bench.kiln.login(&host, USER, PASSWORD);
    bench.build(GOOD, &[]).expect_ok();
}

#[test]
fn a_blob_with_other_bytes() {
    let Some(bench) = Bench::new("other_bytes", Access::Open) else { return };
    let base = fixtures::base_image::busybox().unwrap();
    let digest = fixtures::digest(&base.layers[0]);
    let blob = bench.registry.blob_file(&digest);
    let good = std::fs::read(&blob).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 0xff;
    std::fs::write(&blob, &bad).unwrap();
    // COPY reads files of the base, so that its layer is fetched.
    let dockerfile = "FROM scratch\nCOPY --from=@/library/busybox /etc/passwd /\n";
    bench.refuses(dockerfile, &[], &[&digest]);
    std::fs::write(&blob, &good).unwrap();
    bench.build(dockerfile, &[]).expect_ok();
}

/// The value of `--cache-to` can contain keys, which an error about another part must not repeat.
#[test]
fn wrong_caches_are_named_without_their_keys() {
    let keys = "type=s3,bucket=b,access_key_id=k,secret_access_key=hush";
    for args in [
        vec!["cache", "ls", keys],
        vec!["cache", "copy", "type=local,src=/c", keys],
        vec!["cache", "ls", "r.example.com/hush:1,r.example.com/hush:2"],
    ] {
        let run = kiln().run(&args);
        assert!(run.refused() && !run.stderr.contains("hush"), "{args:?}: {}", run.stderr);
    }
    let run = kiln().run(["cache", "ls", keys]);
    assert!(run.stderr.contains("`CACHE`") && run.stderr.contains("`region`"), "{}", run.stderr);
}
