//! A build that only copies files onto a base with a known index reads nothing of the base, and
//! pushes it by mounting it from its repository.

use fixtures::Access;
use fixtures::docker_registry::LogLine;

use crate::{context_of, kiln, registry, text};

#[test]
fn a_base_whose_index_is_known_is_not_downloaded() {
    let test = "a_base_whose_index_is_known_is_not_downloaded";
    let Some(registry) = registry(test, Access::Open) else { return };
    let kiln = kiln();
    let host = registry.host();
    let base = fixtures::base_image::busybox().unwrap();
    let layer = fixtures::digest(&base.layers[0]);
    let dockerfile = format!("FROM {host}/library/busybox\nWORKDIR /bin/new\nCOPY . /etc/more/\n");
    let build = |name: &str, content: &str| {
        let context = context_of(&[("Dockerfile", dockerfile.as_str()), ("a.txt", content)]);
        let tag = format!("{host}/{name}:1");
        let args = ["build", "--progress", "plain", "-t", &tag, "--push"];
        kiln.run(args.into_iter().chain([text(context.path()).as_str()])).expect_ok();
        tag
    };
    let is_read = |line: &LogLine| line.method == "GET" && line.path.ends_with(&layer);
    let is_mounted = |line: &LogLine| {
        line.method == "POST"
            && line.path.starts_with("/v2/second/")
            && line.path.contains(&format!("mount={layer}"))
            && line.status == 201
    };
    let tag = build("first", "one");
    assert_eq!(registry.log().iter().filter(|line| is_read(line)).count(), 1);

    // Only the index of the base remains.
    kiln.run(["rmi", &tag]).expect_ok();
    kiln.run(["prune", "--force"]).expect_ok();
    let du = kiln.run(["du"]).expect_ok();
    assert!(!du.stdout.contains(" layer ") && du.stdout.contains(" index "), "{}", du.stdout);

    build("second", "two");
    let log = registry.log();
    assert_eq!(log.iter().filter(|line| is_read(line)).count(), 1, "the base was read again");
    assert!(log.iter().any(is_mounted), "the base's layer was not mounted: {log:?}");
    let pulled = kiln_elsewhere(&format!("FROM {host}/second:1\nRUN test -f /bin/busybox\n"));
    assert!(pulled.is_none_or(|run| run.ok()), "the image is not whole");
}

/// Builds with an empty root, which has to fetch everything; needs the privileges of RUN.
fn kiln_elsewhere(dockerfile: &str) -> Option<fixtures::Run> {
    let context = context_of(&[("Dockerfile", dockerfile)]);
    if !fixtures::is_root() {
        fixtures::leave_out("a RUN on the pushed image", "it needs root");
    }
    fixtures::is_root()
        .then(|| kiln().run(["build", "--progress", "plain", &text(context.path())]).expect_ok())
}
