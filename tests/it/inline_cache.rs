//! A cache inside the image: `docker build --cache-from ${LATEST}`.

use fixtures::dockerd::{Dockerd, Options};
use fixtures::{Access, DockerRegistry, Kiln};

use crate::{context_of, kiln, registry, root_or_skip, text};

/// Steps of every kind whose key is the same in both tools, or has an old form. One RUN gets a
/// network that a daemon without a bridge can give.
const STEPS: [&str; 6] = [
    "WORKDIR /srv",
    "COPY data.txt more.txt /srv/",
    "COPY folder ./folder",
    "RUN echo one > /one",
    "COPY --chown=1000:1000 data.txt /owned.txt",
    "RUN [\"/bin/busybox\", \"touch\", \"/two\"]",
];

fn context(registry: &DockerRegistry) -> tempfile::TempDir {
    let base = format!("FROM {}/library/busybox:latest\nENV A=1\n", registry.host());
    context_of(&[
        ("Dockerfile", &(base + &STEPS.join("\n") + "\n")),
        ("data.txt", "data"),
        ("more.txt", "more"),
        ("folder/x", "x"),
    ])
}

/// Builds on an empty root and returns the output.
fn build(kiln: &Kiln, context: &std::path::Path, more: &[&str]) -> String {
    kiln.empty_root();
    let fixed = ["build", "--progress=plain", "--network=host"];
    let context = text(context);
    let args = fixed.iter().chain(more).copied().chain([context.as_str()]);
    kiln.run(args).expect_ok().stderr
}

#[test]
fn an_image_is_the_cache_of_the_next() {
    if !root_or_skip("inline_cache") {
        return;
    }
    let Some(registry) = registry("inline_cache", Access::Open) else { return };
    let (kiln, context) = (kiln(), context(&registry));
    let latest = format!("{}/app:latest", registry.host());
    let base = format!("--cache-from={}/library/busybox", registry.host());
    let args = [
        &format!("--tag={latest}"),
        &format!("--cache-from={latest}"),
        &base,
        "--build-arg=BUILDKIT_INLINE_CACHE=1",
        "--push",
    ];
    let cold = build(&kiln, context.path(), &args);
    assert!(cold.contains("0 steps cached, 6 ran"), "{cold}");
    assert_eq!(cold.matches("first build: no cache yet").count(), 1, "{cold}");
    assert!(!cold.contains("MANIFEST_UNKNOWN"), "{cold}");
    assert!(cold.contains("holds no build cache"), "{cold}");
    let warm = build(&kiln, context.path(), &args);
    assert!(warm.contains("6 steps cached, none ran"), "{warm}");
    // No layer was downloaded or uploaded.
    let asked = registry.log().len();
    build(&kiln, context.path(), &args);
    let log = registry.log().split_off(asked);
    let moved = log.iter().filter(|line| line.bytes > 50_000 || line.method == "PATCH");
    assert_eq!(moved.count(), 0, "{log:?}");

    // The next commit: only the last steps run.
    std::fs::write(context.path().join("folder/x"), "y").unwrap();
    let next = build(&kiln, context.path(), &args);
    assert!(next.contains("2 steps cached, 4 ran"), "{next}");
}

/// The limits of an inline cache are reported when they have a cost.
#[test]
fn an_inline_cache_says_that_it_holds_the_last_stage_only() {
    if !root_or_skip("inline_cache") {
        return;
    }
    let Some(registry) = registry("inline_cache", Access::Open) else { return };
    let kiln = kiln();
    let dockerfile = format!(
        "FROM {0}/library/busybox AS tools\nRUN echo tools > /out\n\
         FROM {0}/library/busybox\nCOPY data.txt /\nCOPY --from=tools /out /\n",
        registry.host()
    );
    let context = context_of(&[("Dockerfile", &dockerfile), ("data.txt", "data")]);
    let latest = format!("{}/app:latest", registry.host());
    let (tag, from) = (format!("--tag={latest}"), format!("--cache-from={latest}"));
    let note = "the inline cache holds the steps of the last stage only";
    let args = [tag.as_str(), &from, "--cache-to=type=inline", "--push"];
    assert_eq!(build(&kiln, context.path(), &args).matches(note).count(), 1);
    // All steps that ran are in it, or there is another cache that has all.
    assert!(!build(&kiln, context.path(), &args).contains(note));
    let all = format!("--cache-to=type=registry,mode=max,ref={}/app:cache", registry.host());
    let both = build(&kiln, context.path(), &[&args[..], &["--no-cache", &all]].concat());
    assert!(!both.contains(note), "{both}");
}

#[test]
fn docker_20_10_and_kiln_share_images_with_caches() {
    let daemon = match Dockerd::start(&Options::default()) {
        Ok(daemon) => daemon,
        Err(reason) => return fixtures::skip("inline_cache", &reason),
    };
    if !daemon.version().starts_with("20.10.") {
        return fixtures::skip("inline_cache", format!("docker is {}", daemon.version()));
    }
    let Some(registry) = registry("inline_cache", Access::Open) else { return };
    let (kiln, context) = (kiln(), context(&registry));
    let image = |tag: &str| format!("{}/app:{tag}", registry.host());

    let build_with_docker = |from: &str, tag: &str| {
        let (from, tag) = (format!("--cache-from={from}"), format!("--tag={tag}"));
        let mut command = daemon.command(&[
            "build",
            "--progress=plain",
            "--network=host",
            "--build-arg=BUILDKIT_INLINE_CACHE=1",
            &from,
            &tag,
            &text(context.path()),
        ]);
        command.env("DOCKER_BUILDKIT", "1");
        fixtures::kiln::finish(command, b"").expect_ok()
    };

    // Docker gets every step from an image built by kiln.
    let tag = format!("--tag={}", image("kiln"));
    build(&kiln, context.path(), &[&tag, "--cache-to=type=inline", "--push"]);
    let run = build_with_docker(&image("kiln"), "warm");
    assert_eq!(run.count("CACHED"), STEPS.len(), "{}", run.stderr);

    // kiln gets every step from an image built by Docker.
    daemon.docker(&["builder", "prune", "--all", "--force"]).expect_ok();
    std::fs::write(context.path().join("data.txt"), "other data").unwrap();
    build_with_docker(&image("none"), &image("docker"));
    daemon.docker(&["push", &image("docker")]).expect_ok();
    let from = format!("--cache-from={}", image("docker"));
    let warm = build(&kiln, context.path(), &[&from, "--tag=warm"]);
    assert!(warm.contains("6 steps cached, none ran"), "{warm}");
}
