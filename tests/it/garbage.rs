//! Disk usage and pruning.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use fixtures::{Access, Kiln};
use serde_json::Value;

use crate::{context_of, kiln, registry, root_or_skip, text};

/// Sizes of the files below a folder, with each file counted once.
fn bytes(folder: &Path, seen: &mut HashSet<u64>) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().unwrap();
        match metadata.is_dir() {
            true => bytes(&entry.path(), seen),
            false if metadata.is_file() && seen.insert(metadata.ino()) => metadata.len(),
            false => 0,
        }
    };
    entries.map(size).sum()
}

fn listed(kiln: &Kiln, filter: &[&str]) -> Vec<Value> {
    let run = kiln.run(["du", "--format=json"].iter().chain(filter)).expect_ok();
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sum(entries: &[Value]) -> u64 {
    entries.iter().map(|entry| entry["Size"].as_u64().unwrap()).sum()
}

#[test]
fn du_adds_up_and_prune_makes_it_less() {
    let Some(registry) = registry("garbage", Access::Open) else { return };
    let kiln = kiln();
    let context = context_of(&[
        (
            "Dockerfile",
            "ARG REGISTRY=docker.io\nFROM ${REGISTRY}/library/busybox:latest\nCOPY a.txt /\n",
        ),
        ("a.txt", "one"),
    ]);
    let build = |more: &[&str]| {
        let host = format!("--build-arg=REGISTRY={}", registry.host());
        let args = [&host, "--output=type=cacheonly", &text(context.path())].map(str::to_owned);
        let more = more.iter().map(|arg| (*arg).to_owned());
        kiln.run(["build".to_owned()].into_iter().chain(args).chain(more)).expect_ok()
    };
    build(&[]);
    let on_disk = |names: &[&str]| -> u64 {
        let seen = &mut HashSet::new();
        names.iter().map(|name| bytes(&kiln.root().join("v1").join(name), seen)).sum()
    };
    let entries = listed(&kiln, &[]);
    assert_eq!(sum(&entries), on_disk(&["blobs", "layers", "mounts"]), "{entries:#?}");
    let layers = listed(&kiln, &["--filter=type=layer"]);
    let blobs = listed(&kiln, &["--filter=type=blob"]);
    let indexes = listed(&kiln, &["--filter=type=index"]);
    assert_eq!(sum(&layers) + sum(&blobs) + sum(&indexes), sum(&entries));
    assert!(!layers.is_empty() && !blobs.is_empty());
    assert_eq!(listed(&kiln, &["--filter=until=1h"]), [Value::Null; 0]);

    // Nothing is older than an hour. Without the age, all layers are removed.
    kiln.run(["prune", "--force", "--all", "--until=1h"]).expect_ok();
    assert_eq!(sum(&listed(&kiln, &[])), sum(&entries));
    kiln.run(["prune", "--force", "--filter=type=layer"]).expect_ok();
    assert_eq!(listed(&kiln, &["--filter=type=layer"]), [Value::Null; 0]);
    // The indexes of the layers remain, and are counted.
    let left = listed(&kiln, &[]);
    assert_eq!(sum(&left), on_disk(&["blobs", "layers", "mounts"]), "{left:#?}");
    assert!(sum(&left) < sum(&entries));
    let refused = kiln.run(["prune", "--force", "--filter=shared=true"]);
    assert!(refused.refused() && refused.stderr.contains("shared=true"), "{}", refused.stderr);

    // A minimum is not a maximum, whatever the two are called in a tool.
    build(&[]);
    let before = sum(&listed(&kiln, &[]));
    for line in [
        "prune --force --max-used-space=20gb --reserved-space=1kb",
        "prune --force --max-used-space=20gb --keep-storage=1kb",
        "prune --force --min-free-space=1 --reserved-space=1kb",
        "prune --force --max-used-space=1 --reserved-space=20gb",
        "docker buildx prune --force --all --max-used-space=20gb --reserved-space=1kb",
        "docker builder prune --force --keep-storage=20gb",
        "buildctl prune --all --keep-storage=20000 --keep-storage-min=1",
        "buildctl prune --all --free-storage=1 --keep-storage-min=1",
    ] {
        kiln.run(line.split(' ')).expect_ok();
        assert_eq!(sum(&listed(&kiln, &[])), before, "{line}");
    }
    for line in ["buildctl prune --keep-storage-min=0.000001", "prune --force --reserved-space=1"] {
        build(&[]);
        kiln.run(line.split(' ')).expect_ok();
        assert!(sum(&listed(&kiln, &[])) < before, "{line}");
    }

    // With `--keep-storage`, a build keeps no more than it used itself.
    build(&[]);
    std::fs::write(context.path().join("a.txt"), "x".repeat(5000)).unwrap();
    build(&[]);
    let before = sum(&listed(&kiln, &[]));
    std::fs::write(context.path().join("a.txt"), "three").unwrap();
    let run = build(&["--keep-storage=1b"]);
    assert!(run.stderr.contains("removed "), "{}", run.stderr);
    assert!(sum(&listed(&kiln, &[])) < before);
    // Pruned content is made again.
    std::fs::write(context.path().join("a.txt"), "x".repeat(5000)).unwrap();
    build(&[]);
    kiln.run(["prune", "--force", "--all"]).expect_ok();
    assert_eq!(sum(&listed(&kiln, &[])), 0);
    build(&[]);
}

/// A cache mount that is unused since an earlier build is removed before the results of the last
/// one.
#[test]
fn what_is_too_much_goes_by_age_whatever_it_is() {
    if !root_or_skip("garbage") {
        return;
    }
    let Some(registry) = registry("garbage", Access::Open) else { return };
    let kiln = kiln();
    let build = |steps: &str| {
        let dockerfile = format!("FROM {}/library/busybox\n{steps}\n", registry.host());
        let context = context_of(&[("Dockerfile", &dockerfile)]);
        let context = text(context.path());
        kiln.run(["build", "--output=type=cacheonly", &context]).expect_ok();
    };
    build("RUN --mount=type=cache,target=/c head -c 4000000 /dev/zero > /c/x");
    build("RUN head -c 3000000 /dev/zero > /new");
    let mounts = ["--filter=type=cachemount"];
    assert_eq!(listed(&kiln, &mounts).len(), 1);
    let limit = format!("--max-used-space={}", sum(&listed(&kiln, &[])) - 2_000_000);
    kiln.run(["prune", "--force", "--all", &limit]).expect_ok();
    assert_eq!(listed(&kiln, &mounts).len(), 0);
    assert!(sum(&listed(&kiln, &["--filter=type=layer"])) >= 3_000_000);
}

#[test]
fn a_wrong_configuration_is_named() {
    let kiln = kiln();
    let context = context_of(&[("Dockerfile", "FROM scratch\nCOPY a.txt /\n"), ("a.txt", "one")]);
    let config = context.path().join("config.toml");
    std::fs::write(&config, "[gc]\nmax-used-space = 'much'\n").unwrap();
    let mut command = kiln.command(["build", "--output=type=cacheonly", &text(context.path())]);
    command.env("KILN_CONFIG", &config);
    let run = fixtures::kiln::finish(command, b"");
    assert!(run.refused() && run.stderr.contains("gc.max-used-space"), "{}", run.stderr);
}
