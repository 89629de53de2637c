//! What the targets share.

use std::cell::RefCell;

use dockerfile::{
    Checking, Dockerfile, ImageLookupError, Images, LowerRequest, Lowering, Outlining,
    ResolvedImage,
};
use graph::{ImageSource, SourceFile};
use oci::{Digest, ImageConfig, Platform};
use store::{OpenOptions, Privileges, Store};

/// Parses, checks, outlines and lowers a text; every image that it asks for is there, or not.
pub fn lower(text: &str) {
    let source = SourceFile { name: "Dockerfile".into(), text: text.into() };
    let Ok(file) = Dockerfile::parse(source) else { return };
    let mut request = LowerRequest::new(Platform::new("linux", "amd64", ""));
    request.build_args.push(("GIVEN".into(), "a b$c".into()));
    request.excludes = vec!["x*".into(), "!xy".into()];
    let mut images = Images::new();
    // Triggers can ask for more, but not for ever: what an image's trigger asks for has none.
    for round in 0..8 {
        match file.lower(&request, &images) {
            Ok(Lowering::Needs(needs)) => {
                for (number, need) in needs.iter().enumerate() {
                    images.insert(need, image(need, round + number));
                }
            }
            Ok(Lowering::Done(_)) | Err(_) => break,
        }
    }
    let _ = matches!(file.check(&request, &images), Checking::Done(_));
    let _ = matches!(file.outline(&request, &images), Ok(Outlining::Done(_)));
}

fn image(
    need: &dockerfile::ImageRequest,
    number: usize,
) -> Result<ResolvedImage, ImageLookupError> {
    if number % 5 == 4 {
        return Err(ImageLookupError::new("not found"));
    }
    let mut config =
        ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
    config.config.env = vec!["PATH=/bin".into(), "EMPTY".into(), "A=a b".into()];
    if number % 3 == 1 {
        config.config.on_build = vec!["RUN x".into(), "COPY a* /b".into()];
    }
    config.rootfs.diff_ids = vec![Digest::of(b"layer")];
    let source = ImageSource {
        reference: need.reference.clone(),
        platform: need.platform.clone(),
        manifest: Digest::of(b"manifest"),
        diff_ids: config.rootfs.diff_ids.clone(),
    };
    Ok(ResolvedImage { source, config })
}

/// How many runs share a store.
const RUNS: usize = 500;

/// A store that lasts for some runs, with a file beside it that nothing may touch.
struct Scratch {
    folder: tempfile::TempDir,
    store: Store,
    runs: usize,
}

thread_local! {
    static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

/// Runs with a store; panics if anything beside the store changed.
pub fn with_store(run: impl FnOnce(&Store)) {
    SCRATCH.with_borrow_mut(|slot| {
        if slot.as_ref().is_some_and(|scratch| scratch.runs >= RUNS) {
            *slot = None;
        }
        let scratch = slot.get_or_insert_with(|| {
            let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
            std::fs::write(folder.path().join("outside"), "untouched").expect("a file");
            let store =
                Store::open(&folder.path().join("root"), OpenOptions::new(Privileges::None))
                    .expect("a store");
            Scratch { folder, store, runs: 0 }
        });
        scratch.runs += 1;
        run(&scratch.store);
        let names = std::fs::read_dir(scratch.folder.path()).expect("the folder").count();
        let outside = std::fs::read(scratch.folder.path().join("outside")).expect("the file");
        assert_eq!((names, outside.as_slice()), (2, &b"untouched"[..]), "something left the store");
    });
}

/// Files of one text, whatever their name.
struct Same(String);

impl bake::ProjectFiles for Same {
    fn read(&self, _: &std::path::Path) -> std::io::Result<Option<String>> {
        Ok(Some(self.0.clone()))
    }
}

/// Loads bake and compose files, and resolves all of their targets.
pub fn bake(files: Vec<bake::DefinitionFile>) {
    let others = Same(files.first().map(|file| file.text.clone()).unwrap_or_default());
    let inputs = bake::Inputs {
        files,
        environment: [("A".to_owned(), "a".to_owned())].into(),
        ..bake::Inputs::default()
    };
    let Ok(definitions) = bake::Definitions::load(inputs, &others) else { return };
    let flags = bake::OverrideFlags { push: true, ..bake::OverrideFlags::default() };
    if let Ok(resolved) = definitions.resolve(&["*".to_owned()], &flags) {
        let _ = resolved.printed();
    }
}
