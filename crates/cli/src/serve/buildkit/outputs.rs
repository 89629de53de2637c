//! The outputs of a solve: what is an image is kept or pushed here, and what is files is made in
//! kiln's root and sent to the client.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use build::{Outcome, Output};
use graph::{Events, Failure, TaskEvent};
use oci::Digest;
use service::{SentFolder, Solve, SolveError, TypedAttributes};
use store::{ScratchFolder, Store};

use super::{blobs, failed};
use crate::args::compound::{Fields, boolean};
use crate::args::{BuildFlags, FlagContext, FlagError};

/// The client's store of blobs for an OCI layout.
const EXPORT_STORE: &str = "export";

/// Attributes that clients send and that say nothing to kiln, each with the reason.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("dangling_name_prefix", "bollard's spelling; BuildKit does not know it either"),
    ("prefer-image-digest", "the answer has the image's digest and its config's"),
    ("unpack", "an image is unpacked when it is needed"),
];

/// The way of an output to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    /// It is here, or in a registry.
    Stays,
    /// A folder, as files.
    Folder {
        /// True if the client removes what is not in it.
        is_whole: bool,
    },
    /// One file.
    File,
    /// A folder of the OCI layout, as blobs.
    Layout,
}

/// The outputs of a solve.
pub(super) struct Outputs {
    list: Vec<(TypedAttributes, Delivery)>,
    /// Places of cache exports that are folders of the client, with the folders.
    caches: BTreeMap<usize, String>,
    scratch: ScratchFolder,
}

impl Outputs {
    /// Reads the outputs, and makes a folder for those that are sent.
    pub(super) fn open(solve: &Solve, store: &Store) -> Result<Self, SolveError> {
        let list = solve.exporters.iter().map(|output| {
            let attribute = |name: &str| output.attributes.get(name).map(String::as_str);
            let delivery = match output.kind.as_str() {
                "image" | "registry" | "moby" | "cacheonly" => Delivery::Stays,
                "local" => Delivery::Folder { is_whole: attribute("mode") == Some("delete") },
                "tar" => Delivery::File,
                "oci" | "docker" if attribute("tar").and_then(boolean) == Some(false) => {
                    Delivery::Layout
                }
                "oci" | "docker" => Delivery::File,
                other => {
                    return Err(SolveError::refused(format!(
                        "exporter `{other}`: there are image, registry, moby, oci, docker, local \
                         and tar"
                    )));
                }
            };
            Ok((output.clone(), delivery))
        });
        let caches = solve.cache_exports.iter().enumerate();
        let caches = caches.filter(|(_, cache)| cache.kind == "local");
        let caches = caches.map(|(place, cache)| {
            let folder = cache.attributes.get("dest").cloned().unwrap_or_default();
            (place, folder)
        });
        Ok(Self {
            list: list.collect::<Result<_, _>>()?,
            caches: caches.collect(),
            scratch: store.scratch_folder().map_err(failed)?,
        })
    }

    fn path(&self, place: usize) -> PathBuf {
        self.scratch.path().join(format!("output-{place}"))
    }

    fn cache_path(&self, place: usize) -> PathBuf {
        self.scratch.path().join(format!("cache-{place}"))
    }

    /// The folder here of a cache export that goes to a folder of the client.
    pub(super) fn cache_folder(&self, place: usize) -> Option<String> {
        self.caches.contains_key(&place).then(|| self.cache_path(place).display().to_string())
    }

    /// Adds the outputs to the flags of a build.
    ///
    /// # Errors
    /// If an attribute is unknown or wrong.
    pub(super) fn add_to(
        &self,
        flags: &mut BuildFlags,
        context: FlagContext<'_>,
    ) -> Result<(), FlagError> {
        for (place, (output, delivery)) in self.list.iter().enumerate() {
            let mut attributes = output.attributes.clone();
            attributes.retain(|key, _| !WITHOUT_EFFECT.iter().any(|(known, _)| known == key));
            let kind = match output.kind.as_str() {
                // The engine's own images, which are kiln's.
                "moby" => "image",
                kind => kind,
            };
            attributes.insert("type".into(), kind.into());
            if *delivery != Delivery::Stays {
                attributes.insert("dest".into(), self.path(place).display().to_string());
            }
            flags.add_kept_output_fields("output", Fields::of_pairs(attributes), context)?;
        }
        if self.list.is_empty() {
            flags.outputs.push(Output::CacheOnly);
        }
        Ok(())
    }

    /// The images among the outputs, for the record of the build.
    pub(super) fn images(&self, outcome: &Outcome) -> BTreeMap<usize, (Digest, u64, String)> {
        let Some(image) = &outcome.image else { return BTreeMap::new() };
        let described = || {
            let descriptor = &image.descriptor;
            (descriptor.digest, descriptor.size, descriptor.media_type.clone())
        };
        let is_image = |(output, _): &&(TypedAttributes, Delivery)| {
            !matches!(output.kind.as_str(), "local" | "tar" | "cacheonly")
        };
        let places = self.list.iter().enumerate().filter(|(_, output)| is_image(output));
        places.map(|(place, _)| (place, described())).collect()
    }

    /// Sends what is the client's to have.
    ///
    /// # Errors
    /// If the client does not take it.
    pub(super) async fn deliver(
        &self,
        solve: &Solve,
        outcome: &Outcome,
        events: &Events,
    ) -> Result<(), SolveError> {
        for (place, (output, delivery)) in self.list.iter().enumerate() {
            if *delivery != Delivery::Stays {
                let name = format!("sending output of type {} to the client", output.kind);
                shown(events, &name, self.send(solve, outcome, place, *delivery)).await?;
            }
        }
        for (place, folder) in &self.caches {
            let path = self.cache_path(*place);
            let store = format!("local:{folder}");
            let sent = async { blobs::send(client(solve)?, &store, &path).await };
            shown(events, "sending cache to the client", sent).await?;
        }
        Ok(())
    }

    async fn send(
        &self,
        solve: &Solve,
        outcome: &Outcome,
        place: usize,
        delivery: Delivery,
    ) -> Result<(), SolveError> {
        let (session, path) = (client(solve)?, self.path(place));
        match delivery {
            Delivery::Stays => Ok(()),
            Delivery::Folder { is_whole } => {
                let sent = SentFolder { folder: path, exporter: place, is_whole };
                service::send_folder(session, sent).await.map_err(failed)
            }
            Delivery::File => {
                let metadata = response(outcome);
                service::send_file(session, &path, place, &metadata).await.map_err(failed)
            }
            Delivery::Layout => blobs::send(session, EXPORT_STORE, &path).await,
        }
    }
}

fn client(solve: &Solve) -> Result<&service::ClientSession, SolveError> {
    let session = solve.session.as_deref();
    session.ok_or_else(|| SolveError::refused("the build has no session to send outputs to"))
}

/// Shows work in the progress.
async fn shown(
    events: &Events,
    name: &str,
    work: impl Future<Output = Result<(), SolveError>>,
) -> Result<(), SolveError> {
    let task = events.task(name, Vec::new());
    events.send(task, TaskEvent::Started);
    let result = work.await;
    events.send(
        task,
        match &result {
            Ok(()) => TaskEvent::Done,
            Err(error) => TaskEvent::Failed(Failure::Error(error.message.as_str().into())),
        },
    );
    result
}

/// The answer to a client (BuildKit's `exptypes`).
pub(super) fn response(outcome: &Outcome) -> BTreeMap<String, String> {
    let mut response = BTreeMap::new();
    if let Some(manifest) = &outcome.cache_manifest
        && let Ok(text) = serde_json::to_string(manifest)
    {
        response.insert("cache.manifest".into(), text);
    }
    let Some(image) = &outcome.image else { return response };
    response.insert("containerimage.digest".into(), image.descriptor.digest.to_string());
    if let Some(config) = &image.config {
        response.insert("containerimage.config.digest".into(), config.to_string());
    }
    if let Ok(text) = serde_json::to_vec(&image.descriptor) {
        response.insert("containerimage.descriptor".into(), BASE64_STANDARD.encode(text));
    }
    if !image.names.is_empty() {
        response.insert("image.name".into(), image.names.join(","));
    }
    response
}
