//! The fuzz targets, compiled without the fuzzer and run on a few inputs: a change of what they call
//! shows here. `fuzz/` is a workspace of its own, which no other check compiles.

#![expect(unused_attributes, reason = "`no_main` is for the targets as programs")]

// The names that the targets know: the fuzzer, and the library in `fuzz/src`.
extern crate self as kiln_fuzz;
extern crate self as libfuzzer_sys;

#[path = "../../../fuzz/src/lib.rs"]
mod shared;

pub use shared::{bake, lower, with_store};

/// Inputs of every target: nothing, beginnings of formats, and separators.
const INPUTS: [&str; 6] = ["", "\0", "\0a\0b\n", "{\"a\": [1]}", "FROM a\nRUN b\n", "a: b\n---\nc"];

/// A type that targets read.
pub trait Input {
    /// The input of a text.
    fn of(text: &'static str) -> Self;
}

impl Input for &str {
    fn of(text: &'static str) -> Self {
        text
    }
}

impl Input for &[u8] {
    fn of(text: &'static str) -> Self {
        text.as_bytes()
    }
}

/// Takes the place of libfuzzer's macro.
#[macro_export]
macro_rules! fuzz_target {
    (|$input:ident: $kind:ty| $body:expr) => {
        fn run($input: $kind) {
            $body
        }

        #[test]
        fn a_few_inputs() {
            for input in $crate::INPUTS {
                run($crate::Input::of(input));
            }
        }
    };
}

macro_rules! targets {
    ($($name:ident)*) => {
        #[path = "../../../fuzz/fuzz_targets"]
        mod targets {
            $(mod $name;)*
        }

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! {
    archive bake_hcl cache_config catalogue challenge compose dockerfile documents dotenv
    engine_request facts file_sync git_address gotemplate identity ignore index layer login_file map packages ssh words yaml
}

#[test]
fn every_target_is_here_and_in_the_manifest() {
    let folder = fixtures::source_tree().join("fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let mut found: Vec<String> = std::fs::read_dir(folder.join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, NAMES);
    for name in NAMES {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
}
