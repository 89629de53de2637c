//! Diagnostics (`KILN_LOG`): a build can be traced from its request to its exports, and the log
//! contains no secrets.

use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use fixtures::docker_registry::{PASSWORD, USER};
use fixtures::{Access, Kiln, Run};

use crate::{context_of, kiln, registry, root_or_skip};

const DOCKERFILE: &str = "ARG REGISTRY=docker.io
FROM $REGISTRY/library/busybox
COPY a.txt /
RUN --mount=type=secret,id=token cat /run/secrets/token > /dev/null; echo made > /made
";

/// Builds with a login, a secret and a cache.
fn build(kiln: &Kiln, host: &str, variables: &[(&str, &str)], flags: &[&str]) -> Run {
    let context = context_of(&[("Dockerfile", DOCKERFILE), ("a.txt", "a\n")]);
    let mut args: Vec<String> = flags.iter().map(|flag| (*flag).into()).collect();
    args.extend([
        "build".into(),
        format!("--build-arg=REGISTRY={host}"),
        "--secret=id=token,env=TOKEN".into(),
        format!("--cache-from=type=registry,ref={host}/shop:cache"),
        format!("--cache-to=type=registry,ref={host}/shop:cache,mode=max"),
        format!("--tag={host}/shop:image"),
        "--push".into(),
        crate::text(context.path()),
    ]);
    let mut command = kiln.command(args);
    command.env("TOKEN", "hush-secret").envs(variables.iter().copied());
    fixtures::kiln::finish(command, b"")
}

#[test]
fn a_build_can_be_followed_and_tells_no_secret() {
    const TEST: &str = "log::a_build_can_be_followed_and_tells_no_secret";
    if !root_or_skip(TEST) {
        return;
    }
    let Some(registry) = registry(TEST, Access::Password) else { return };
    let kiln = kiln();
    kiln.login(registry.host(), USER, PASSWORD);
    let log = kiln.home().join("log");
    let path = crate::text(&log);

    let run = build(&kiln, registry.host(), &[("KILN_LOG_FILE", &path)], &[]).expect_ok();
    assert!(!run.stderr.contains("DEBUG"), "{}", run.stderr);
    assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&log).unwrap();
    for seam in ["build{", "solve{", "step{", "run{", "import{", "export{", "layer{"] {
        assert!(text.contains(seam), "no span `{seam}`:\n{text}");
    }
    for event in ["looked up by keys", "request method=PUT", "command ended", "time.busy="] {
        assert!(text.contains(event), "no event `{event}`:\n{text}");
    }
    for foreign in ["h2::", "hyper", "reqwest::"] {
        assert!(!text.contains(foreign), "`{foreign}` is logged:\n{text}");
    }

    kiln.empty_root();
    let run = build(&kiln, registry.host(), &[("KILN_LOG", "trace")], &[]).expect_ok();
    assert!(run.stderr.contains("looked up by keys") && run.count("CACHED") > 0, "{}", run.stderr);
    let debug = build(&kiln, registry.host(), &[], &["--debug"]).expect_ok();
    assert!(debug.stderr.contains("DEBUG build{"), "{}", debug.stderr);
    let one = build(&kiln, registry.host(), &[("KILN_LOG", "registry=debug")], &[]).expect_ok();
    assert!(one.stderr.contains("registry::transport"), "{}", one.stderr);
    assert!(!one.stderr.contains("looked up"), "{}", one.stderr);

    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    for output in [&text, &run.stderr, &debug.stderr, &one.stderr] {
        for secret in ["hush-secret", PASSWORD, &basic] {
            assert!(!output.contains(secret), "`{secret}`: {output}");
        }
    }
}

#[test]
fn what_cannot_be_logged_is_refused() {
    for (variables, reason) in [
        ([("KILN_LOG", "loud")], "`loud` is not a level"),
        ([("KILN_LOG", "info,hyper=debug")], "`hyper=debug` is not a level"),
        ([("KILN_LOG_FILE", "/nonexistent/log")], "opening `/nonexistent/log`"),
    ] {
        let kiln = kiln();
        let mut command = kiln.command(["images"]);
        command.envs(variables);
        let run = fixtures::kiln::finish(command, b"");
        assert!(run.refused() && run.stderr.contains(reason), "{}", run.stderr);
    }
}
