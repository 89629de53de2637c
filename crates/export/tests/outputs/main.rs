//! Images as documents, archives and folders, and in an engine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod archives;
mod documents;
mod engines;
mod products;

use std::io;
use std::sync::{Arc, Mutex};

use export::{
    ArchiveKind, ArchiveRequest, EpochChoice, Format, Image, PlatformImage, Product, Writing,
};
use graph::Events;
use layer::{Compression, Entry, EntryKind, Layer, Time};
use oci::{History, ImageConfig, Reference};
use registry::{Client, Settings};
use store::{OpenOptions, Privileges, Store};
use transfer::{LayerFormat, Transfer};

const GZIP: Format = Format {
    layers: LayerFormat { compression: Compression::Gzip(None), force: false },
    oci_mediatypes: true,
};

/// A store and a transfer.
struct OutputFixture {
    transfer: Transfer,
    folder: tempfile::TempDir,
}

impl OutputFixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = OpenOptions::new(Privileges::None);
        let store = Store::open(&folder.path().join("root"), options).unwrap();
        let client = Client::new(Settings::default()).unwrap();
        Self { transfer: Transfer::new(store, client, Events::none()), folder }
    }

    fn layer(&self, path: &str, content: &str) -> Layer {
        let format = Compression::Gzip(None);
        let mut writer = self.transfer.store().layer_writer(format).unwrap();
        let entry = Entry {
            path: path.as_bytes().into(),
            kind: EntryKind::File { size: content.len() as u64 },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
        };
        writer.append(&entry, Some(&mut content.as_bytes())).unwrap();
        let created = Some("2026-01-02T03:04:05Z".into());
        Layer { created, ..writer.finish().unwrap() }
    }

    /// An image with two layers.
    fn image(&self) -> Image {
        let entry = |by: &str, empty_layer| History {
            created_by: by.into(),
            empty_layer,
            ..History::default()
        };
        let config = ImageConfig {
            architecture: "amd64".into(),
            os: "linux".into(),
            history: vec![entry("RUN a", false), entry("ENV b", true), entry("COPY c", false)],
            ..ImageConfig::default()
        };
        let layers = vec![self.layer("a", "first"), self.layer("c", &"second ".repeat(50_000))];
        Image { config, layers, epoch: None, base_history: 0, base_layers: 0, rewritten: None }
    }
}

/// An image alone.
fn product(image: Image) -> Product {
    product_for(&["linux/amd64"], image)
}

/// The same image for several platforms.
fn product_for(platforms: &[&str], image: Image) -> Product {
    let image = |platform: &&str| PlatformImage {
        platform: platform.parse().unwrap(),
        image: image.clone(),
        attestations: Vec::new(),
    };
    Product { images: platforms.iter().map(image).collect(), is_index: false }
}

fn names(texts: &[&str]) -> Vec<Reference> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn writing(names: &[Reference]) -> Writing<'_> {
    Writing {
        format: GZIP,
        names,
        annotations: &[],
        oci_artifact: true,
        inline: true,
        rewrite_timestamp: false,
        epoch: EpochChoice::OfBuild,
        task: None,
    }
}

fn request<'a>(
    product: &'a Product,
    names: &'a [Reference],
    kind: ArchiveKind,
) -> ArchiveRequest<'a> {
    ArchiveRequest { product, writing: writing(names), kind }
}

/// A writer whose bytes outlive it.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The files of an archive, read by a second, simple implementation.
fn untar(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut at = 0;
    while let Some(header) = archive.get(at..at + 512).filter(|header| header[0] != 0) {
        let text = |range: std::ops::Range<usize>| {
            let text = String::from_utf8(header[range].to_vec()).unwrap();
            text.trim_matches(|c| c == '\0' || c == ' ').to_owned()
        };
        let size = usize::from_str_radix(&text(124..136), 8).unwrap();
        files.push((text(0..100), archive[at + 512..at + 512 + size].to_vec()));
        at += 512 + size.div_ceil(512) * 512;
    }
    files
}
