//! The real binary against programs of the machine: recorded images and keys, Debian's registry,
//! skopeo, umoci. One program, so that it is linked once; each test reports why it skips.

// A panic on `None` or an error is the failure of a test.
#![allow(clippy::unwrap_used)]

mod at_once;
mod attacks;
mod bake_files;
mod builder_containers;
mod cache_upkeep;
mod ci;
mod commands;
mod conformance;
mod containers;
mod contexts;
mod debian;
mod diagnostics;
mod docker_flags;
mod endings;
mod engine_clients;
mod environments;
mod garbage;
mod hostile;
mod imagetools;
mod in_place;
mod inline_cache;
mod keys;
mod lazy_roots;
mod liar;
mod log;
mod lost_layers;
mod mounts;
mod object_store;
mod other_readers;
mod outputs;
mod own_images;
mod passing_faults;
mod personalities;
mod policies;
mod refusals;
mod registry_cache;
mod repository;
mod serve;
mod shown_addresses;
mod sources;
mod ssh;
mod static_binary;
mod travel;
mod unread_base;
mod uploaded_contexts;

use std::path::{Path, PathBuf};

use fixtures::{Access, DockerRegistry, Kiln, context};
use serde_json::Value;
use tempfile::TempDir;

/// A kiln with an empty home.
fn kiln() -> Kiln {
    Kiln::new(env!("CARGO_BIN_EXE_kiln"))
}

/// A registry with the base image; `None` if the test is skipped.
fn registry(test: &str, access: Access) -> Option<DockerRegistry> {
    let registry = DockerRegistry::start(access)
        .and_then(|registry| registry.put_busybox().map(|()| registry));
    // Installed but not working is a failure; not installed is a reason to skip.
    match registry {
        Ok(registry) => Some(registry),
        Err(reason) if reason.to_string().contains("apt-get install") => {
            fixtures::skip(test, &reason);
            None
        }
        Err(reason) => panic!("{reason:#}"),
    }
}

/// An installed program, or a skip.
fn program(test: &str, name: &str) -> Option<PathBuf> {
    let found = fixtures::program(name);
    if found.is_none() {
        fixtures::skip(test, format!("no {name}: `apt-get install {name}`"));
    }
    found
}

/// True if RUN can use ids other than this user's own; otherwise a skip.
fn root_or_skip(test: &str) -> bool {
    if !fixtures::is_root() {
        fixtures::skip(test, "it needs root");
    }
    fixtures::is_root()
}

/// A context with these files.
fn context_of(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

/// A copy of a folder of the source tree.
fn copy_of(folder: &str, to: &Path) {
    context::copy(&fixtures::source_tree().join(folder), to).unwrap();
}

/// A path as an argument.
fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A number from the statistics in a build's `--metadata-file`.
fn stat(metadata: &Path, name: &str) -> u64 {
    let metadata: Value = serde_json::from_slice(&std::fs::read(metadata).unwrap()).unwrap();
    metadata["kiln.stats"][name].as_u64().unwrap_or_else(|| panic!("no `{name}` in {metadata}"))
}
