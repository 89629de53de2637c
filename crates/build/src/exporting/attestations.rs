//! Attestations of images: facts of the build for a provenance, packages of the result for a bill
//! of materials.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;

use attest::{Facts, File, ImageFiles, Material};
use export::Attestation;
use graph::{Network, Operation, StepId, TaskEvent};
use layer::Layer;
use oci::{Digest, Platform, Reference};
use store::Store;
use tree::Tree;
use tree::{Content, NodeKind};

use crate::Error;
use crate::frontend::bases::{Bases, PlatformTarget};
use crate::request::{Context, DockerfileSource, NoCache, ProvenanceRequest};
use crate::session::Build;
use crate::solving::SolvedGraph;

/// An image that things are said of.
pub(crate) struct Attested<'a> {
    pub build: &'a Build<'a>,
    pub bases: &'a Bases,
    pub solved: &'a SolvedGraph<'a>,
    pub target: &'a PlatformTarget,
}

impl Attested<'_> {
    /// The attestations that the request asks for, of an image with these layers.
    ///
    /// # Errors
    /// If its layers cannot be read, or its provenance would not be complete and has to be.
    pub(crate) async fn attestations(&self, layers: &[Layer]) -> Result<Vec<Attestation>, Error> {
        let mut attestations = Vec::new();
        if self.build.request.attestations.sbom {
            attestations.push(self.sbom(layers).await?);
        }
        if let Some(wanted) = &self.build.request.attestations.provenance {
            attestations.push(self.provenance(wanted)?);
        }
        Ok(attestations)
    }

    async fn sbom(&self, layers: &[Layer]) -> Result<Attestation, Error> {
        let events = self.build.events;
        let task = events.task(format!("[{}] generating sbom", self.target.platform), Vec::new());
        events.send(task, TaskEvent::Started);
        let read = async {
            self.solved.transfer.unpack(layers, Some(task)).await.map_err(export::Error::Layer)?;
            let (store, layers) = (self.build.session.store().clone(), layers.to_vec());
            transfer::blocking(move || {
                let mut tree = Tree::new();
                for layer in &layers {
                    tree.apply_layer(layer.diff_id, &*store.index(&layer.diff_id)?)
                        .map_err(|error| export::Error::Format(error.to_string()))?;
                }
                Ok::<_, Error>(attest::scan(&TreeFiles { tree, store }))
            })
            .await
        };
        let found = match read.await {
            Ok(found) => found,
            Err(error) => {
                let text = transfer::chain_text(&error);
                events.send(task, TaskEvent::Failed(graph::Failure::Error(text.into())));
                return Err(error);
            }
        };
        for note in &found.notes {
            events.send(task, TaskEvent::Warning(note.as_str().into()));
        }
        let mut arguments = self.build.request.build_args.iter();
        if self.bases.file.text.contains(SCAN) || arguments.any(|(name, _)| name.starts_with(SCAN))
        {
            let note = "BUILDKIT_SBOM_SCAN_STAGE and BUILDKIT_SBOM_SCAN_CONTEXT are not there yet: the result alone is scanned";
            events.send(task, TaskEvent::Warning(note.into()));
        }
        events.send(task, TaskEvent::Done);

        let tags = self.build.request.tags.iter().map(Reference::familiar).next();
        let name =
            tags.or_else(|| self.build.request.target.clone()).unwrap_or_else(|| "image".into());
        let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let now = jiff::Timestamp::now().as_second();
        let seconds = self.target.lowered.source_date_epoch.unwrap_or(now);
        let created = jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string();
        let about = attest::SpdxSubject {
            name: &name,
            identity: &Digest::of(diff_ids.join("\n")),
            created: &created,
            tool: concat!("kiln-", env!("CARGO_PKG_VERSION")),
        };
        Ok(Attestation {
            predicate_type: attest::SPDX_PREDICATE.into(),
            predicate: attest::document(&found, &about),
            file_name: "sbom.spdx.json".into(),
            inline_only: false,
        })
    }

    fn provenance(&self, asked: &ProvenanceRequest) -> Result<Attestation, Error> {
        let facts = self.facts();
        if asked.complete_materials && !facts.is_complete() {
            // The first words are BuildKit's.
            return Err(Error::Request(format!(
                "provenance materials are incomplete: the build was asked for complete ones, and reads local sources: {}",
                facts.locals.join(", ")
            )));
        }
        Ok(Attestation {
            predicate_type: asked.wanted.version.predicate_type().into(),
            predicate: facts.predicate(&asked.wanted),
            file_name: asked.file_name.clone(),
            inline_only: asked.inline_only,
        })
    }

    fn facts(&self) -> Facts<'_> {
        let lowered = &self.target.lowered;
        let steps = self.steps();
        let mut locals: BTreeSet<String> =
            lowered.contexts.iter().map(|used| used.name.clone()).collect();
        let is_folder = matches!(
            self.build.request.context,
            Context::Folder(_) | Context::Client(_) | Context::Empty
        );
        if is_folder || !matches!(self.build.request.dockerfile, DockerfileSource::Path(None)) {
            locals.insert("dockerfile".into());
        }
        let operations = steps.iter().map(|step| &self.bases.graph.step(*step).operation);
        let is_online = |operation: &Operation| matches!(operation, Operation::Run(run) if run.network != Network::None);
        let materials: BTreeSet<Material> =
            operations.clone().filter_map(|operation| self.material(operation)).collect();
        Facts {
            source: self.source(),
            entry_point: Some(self.bases.file.name.to_string()),
            args: self.args(),
            secrets: lowered.secrets.iter().map(|used| (used.id.clone(), !used.required)).collect(),
            agents: lowered.agents.iter().map(|used| (used.id.clone(), !used.required)).collect(),
            locals: locals.into_iter().collect(),
            materials: materials.into_iter().collect(),
            vcs: self.build.request.vcs.clone(),
            network_access: operations.clone().any(is_online),
            builder_platform: Platform::host(),
            builder: ("kiln", env!("CARGO_PKG_VERSION")),
            invocation: invocation(),
            started: self.bases.started.to_string(),
            finished: jiff::Timestamp::now().to_string(),
            graph: &self.bases.graph,
            result: self.target.result,
            file: &self.bases.file,
            layers: self.layers(),
        }
    }

    /// The steps that the image stands on.
    fn steps(&self) -> BTreeSet<StepId> {
        let mut steps = BTreeSet::new();
        let mut open: Vec<StepId> = self.target.result.into_iter().collect();
        while let Some(id) = open.pop() {
            if steps.insert(id) {
                open.extend(&self.bases.graph.step(id).inputs);
            }
        }
        steps
    }

    fn material(&self, operation: &Operation) -> Option<Material> {
        match operation {
            Operation::Image(source) => {
                let name = &source.reference;
                let digest = name.digest().unwrap_or(source.manifest);
                let plain = match name.tag() {
                    Some(tag) => {
                        Reference::new(name.repository().clone(), Some(tag.to_owned()), None)
                    }
                    None => name.clone(),
                };
                Some(Material::new(oci::purl::image(&plain, Some(&source.platform)), &digest))
            }
            Operation::Http(source) => {
                let digest = self.bases.sources.digest(source)?;
                Some(Material::new(oci::shown_text(&source.url), &digest))
            }
            Operation::Git(source) => {
                let commit = self.bases.sources.commit(source)?;
                Some(Material::commit(oci::shown_text(&source.remote), &commit))
            }
            Operation::Local(_) | Operation::Run(_) | Operation::Files(_) | Operation::Merge => {
                None
            }
        }
    }

    /// The origin of the context, if it is not a folder.
    fn source(&self) -> Option<Material> {
        match &self.build.request.context {
            Context::Git(context) => {
                let source = &context.source;
                let mut uri = oci::shown_text(&source.remote);
                if !source.reference.is_empty() || !source.subdir.is_empty() {
                    uri.push_str(&format!("#{}", source.reference));
                }
                if !source.subdir.is_empty() {
                    uri.push_str(&format!(":{}", source.subdir));
                }
                let commit = self.bases.sources.commit(source);
                Some(match commit {
                    Some(commit) => Material::commit(uri, &commit),
                    None => Material { uri, digests: attest::Digests::new() },
                })
            }
            Context::Http(url) => {
                Some(Material { uri: oci::shown_text(url), digests: attest::Digests::new() })
            }
            Context::Folder(_) | Context::Client(_) | Context::Empty | Context::Archive(_) => None,
        }
    }

    /// The options, under the names of BuildKit's frontend. Values that only the
    /// machine knows are left out, as in BuildKit.
    fn args(&self) -> BTreeMap<String, String> {
        let request = self.build.request;
        let mut args = BTreeMap::new();
        for (name, value) in &request.build_args {
            // An address, of a proxy or a download, can have a password.
            args.insert(format!("build-arg:{name}"), oci::shown_text(value));
        }
        for (name, value) in &request.labels {
            args.insert(format!("label:{name}"), oci::shown_text(value));
        }
        args.extend(request.target.iter().map(|target| ("target".into(), target.clone())));
        match &request.no_cache {
            NoCache::Nothing => {}
            NoCache::Everything => drop(args.insert("no-cache".into(), String::new())),
            NoCache::Stages(stages) => drop(args.insert("no-cache".into(), stages.join(","))),
        }
        match request.network {
            Network::Default => {}
            Network::Host => drop(args.insert("force-network-mode".into(), "host".into())),
            Network::None => drop(args.insert("force-network-mode".into(), "none".into())),
        }
        let hosts: Vec<String> =
            request.extra_hosts.iter().map(|(name, address)| format!("{name}={address}")).collect();
        if !hosts.is_empty() {
            args.insert("add-hosts".into(), hosts.join(","));
        }
        args
    }

    /// The layers that steps left, where all of them have a blob.
    fn layers(&self) -> BTreeMap<StepId, Vec<oci::Descriptor>> {
        let made = self.solved.steps.iter().filter(|step| !step.inputs.is_empty());
        made.filter_map(|step| {
            let layers = step.output.as_ref()?.layers();
            let blobs: Option<Vec<_>> = layers.into_iter().map(|layer| layer.blob).collect();
            Some((step.id, blobs?))
        })
        .collect()
    }
}

/// Prefix of the arguments that ask BuildKit to scan more than the result.
const SCAN: &str = "BUILDKIT_SBOM_SCAN_";

/// A name that no other build has.
fn invocation() -> String {
    let number = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", number(), number())
}

/// The files that layers show.
struct TreeFiles {
    tree: Tree,
    store: Store,
}

impl ImageFiles for TreeFiles {
    fn list(&self) -> Vec<File> {
        let mut files = Vec::new();
        self.tree.walk(|path, node| {
            if let (NodeKind::File { size, .. }, Ok(path)) = (&node.kind, std::str::from_utf8(path))
            {
                let is_executable = node.mode & 0o111 != 0;
                files.push(File { path: path.to_owned(), size: *size, is_executable });
            }
        });
        files
    }

    fn read_at(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let node = self.tree.get(path.as_bytes()).ok_or(io::ErrorKind::NotFound)?;
        let NodeKind::File { size, content, .. } = &node.kind else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        // Offsets come from the file itself, which can be hostile.
        let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(left)];
        if let Content::Layer { diff_id, path } = content {
            self.store.open_file(diff_id, path)?.read_exact_at(&mut bytes, offset)?;
            return Ok(bytes);
        }
        let mut whole = content.open(*size, &self.store)?;
        io::copy(&mut whole.by_ref().take(offset), &mut io::sink())?;
        whole.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
