//! From a Dockerfile to a graph, with the images that it stands on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dockerfile::{Dockerfile, ImageLookupError, ImageRequest, Lowered, Lowering, ResolvedImage};
use execute::{BaseImage, ContextFolder, ImageError, Images, Sources};
use futures_util::future::join_all;
use graph::{Failure, Graph, Operation, SourceFile, StepId, TaskEvent};
use oci::{Platform, parse_bool};

use crate::context::{OpenContext, download_of};
use crate::executor::ExecutorInputs;
use crate::frontend::{client_policy, oci_layouts};
use crate::request::{NamedContext, NoCache};
use crate::session::Build;
use crate::{Error, Request, image_store};

/// A graph and what is known around it.
pub(crate) struct Bases {
    /// The steps of all platforms; what they share is in it once.
    pub graph: Graph,
    /// The image of each platform.
    pub targets: Vec<PlatformTarget>,
    /// True if an index is asked for even for one platform.
    pub is_index: bool,
    pub images: Arc<Images>,
    /// Folders by the names of contexts.
    pub folders: BTreeMap<String, ContextFolder>,
    pub file: SourceFile,
    /// Its lines after which a layer of the image ends.
    pub marked: Vec<u32>,
    /// Downloads and checkouts so far.
    pub sources: Arc<Sources>,
    /// Operations that progress has shown already.
    pub shown: Vec<Operation>,
    /// Warnings about the Dockerfile.
    pub warnings: Vec<String>,
    /// When the build began to ask for them.
    pub started: jiff::Timestamp,
}

/// The image of one platform.
pub(crate) struct PlatformTarget {
    pub platform: Platform,
    /// The Dockerfile, lowered for it. Its own graph is part of the one of all platforms.
    pub lowered: Lowered,
    /// The step that makes the image's layers, in the graph of all platforms.
    pub result: Option<StepId>,
}

impl Bases {
    /// The steps that make the images' layers.
    pub(crate) fn results(&self) -> Vec<StepId> {
        self.targets.iter().filter_map(|target| target.result).collect()
    }

    /// The time that nothing is later than. An `ARG` can give each platform one of its own: what
    /// platforms share has the first one's.
    pub(crate) fn source_date_epoch(&self) -> Option<i64> {
        self.targets.iter().find_map(|target| target.lowered.source_date_epoch)
    }

    /// The parts of an executor for this graph.
    pub(crate) fn parts(&self, required: BTreeSet<StepId>) -> ExecutorInputs<'_> {
        ExecutorInputs {
            graph: &self.graph,
            images: self.images.clone(),
            folders: self.folders.clone(),
            epoch: self.source_date_epoch(),
            sources: self.sources.clone(),
            shown: &self.shown,
            required,
        }
    }
}

/// Lowers a Dockerfile for each platform, resolving the images that it needs until it needs no
/// more.
pub(crate) async fn lower(
    build: &Build<'_>,
    opened: &OpenContext,
    dockerfile: &Dockerfile,
) -> Result<Bases, Error> {
    let started = jiff::Timestamp::now();
    let request = build.request;
    let mut asking = Asking::new(build, opened)?;
    let is_index = is_index(request)?;
    let asked: Vec<dockerfile::LowerRequest> = match request.platforms.as_slice() {
        [] => vec![asking.asked.clone()],
        platforms => distinct(platforms)
            .into_iter()
            .map(|platform| dockerfile::LowerRequest { platform, ..asking.asked.clone() })
            .collect(),
    };
    let several = is_index || asked.len() > 1;
    let mut lowered = Vec::with_capacity(asked.len());
    while lowered.len() < asked.len() {
        let mut missing = Vec::new();
        lowered.clear();
        for asked in &asked {
            let asked = dockerfile::LowerRequest { multi_platform: several, ..asked.clone() };
            let lowering = dockerfile
                .lower(&asked, &asking.resolved)
                .map_err(|error| Error::in_dockerfile(error, &opened.dockerfile))?;
            match lowering {
                Lowering::Done(done) => lowered.push(*done),
                Lowering::Needs(needs) => missing.extend(needs),
            }
        }
        let mut needs: Vec<ImageRequest> = Vec::new();
        for need in missing {
            // Stages that every platform has ask for the same.
            let same = |known: &ImageRequest| {
                (&known.reference, &known.platform, &known.context)
                    == (&need.reference, &need.platform, &need.context)
            };
            if !needs.iter().any(same) {
                needs.push(need);
            }
        }
        asking.look_up(&needs).await;
    }
    let warnings = warnings(build, opened, &lowered);
    let (graph, numbers) = Graph::merge(lowered.iter().map(|lowered| &lowered.graph));
    client_policy::check(request, &graph).await?;
    let target = |(lowered, numbers): (Lowered, Vec<StepId>)| PlatformTarget {
        platform: lowered.config.platform(),
        result: lowered.result.map(|result| numbers[result.0 as usize]),
        lowered,
    };
    let mut targets: Vec<PlatformTarget> = lowered.into_iter().zip(numbers).map(target).collect();
    if !request.platforms.is_empty() {
        for (target, asked) in targets.iter_mut().zip(asked) {
            target.platform = asked.platform;
        }
    }
    let Asking { images, folders, .. } = asking;
    Ok(Bases {
        graph,
        targets,
        is_index: several,
        images,
        folders,
        file: opened.dockerfile.clone(),
        marked: opened.marked.clone(),
        sources: opened.sources.clone(),
        shown: opened.shown.clone(),
        warnings,
        started,
    })
}

/// Platforms, each once.
fn distinct(platforms: &[Platform]) -> Vec<Platform> {
    let mut distinct: Vec<Platform> = Vec::new();
    for platform in platforms.iter().map(Platform::normalize) {
        if !distinct.contains(&platform) {
            distinct.push(platform);
        }
    }
    distinct
}

/// True if an index is asked for even for one platform (`BUILDKIT_MULTI_PLATFORM`).
fn is_index(request: &Request) -> Result<bool, Error> {
    let given = request.build_args.iter().rev();
    let mut given = given.filter(|(name, value)| name == MULTI_PLATFORM && !value.is_empty());
    let Some((_, value)) = given.next() else { return Ok(false) };
    match parse_bool(value) {
        Some(true) => Ok(true),
        Some(false) if distinct(&request.platforms).len() > 1 => {
            let message = "conflicting config: returning multiple target platforms is not allowed";
            Err(Error::Request(format!("{message}: `{MULTI_PLATFORM}={value}`")))
        }
        Some(false) => Ok(false),
        None => {
            Err(Error::Request(format!("invalid boolean value for {MULTI_PLATFORM}: `{value}`")))
        }
    }
}

/// A build argument that asks for an index.
const MULTI_PLATFORM: &str = "BUILDKIT_MULTI_PLATFORM";

/// The arguments that a Dockerfile is lowered with, and the images that were looked up for it.
pub(crate) struct Asking<'a> {
    build: &'a Build<'a>,
    pub asked: dockerfile::LowerRequest,
    pub resolved: dockerfile::Images,
    images: Arc<Images>,
    folders: BTreeMap<String, ContextFolder>,
}

impl<'a> Asking<'a> {
    /// Asks for the first platform of the request, or this machine's.
    pub(crate) fn new(build: &'a Build<'a>, opened: &OpenContext) -> Result<Self, Error> {
        let mut folders = BTreeMap::new();
        folders.extend(opened.folder.clone().map(|folder| ("context".to_owned(), folder)));
        let asked = dockerfile_request(build.request, opened, &mut folders)?;
        let images = Arc::new(Images::new(build.session.client().clone()));
        Ok(Self { build, asked, resolved: dockerfile::Images::new(), images, folders })
    }

    /// Finds images, or keeps why they cannot be found.
    pub(crate) async fn look_up(&mut self, needs: &[ImageRequest]) {
        let find = |need| resolve(self.build, &self.images, need);
        let found = join_all(needs.iter().map(find)).await;
        for (need, found) in needs.iter().zip(found) {
            self.resolved.insert(need, found.map_err(ImageLookupError::new));
        }
    }
}

/// Says once what the user should know, however many platforms say it.
fn warnings(build: &Build<'_>, opened: &OpenContext, lowered: &[Lowered]) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    for finding in lowered.iter().flat_map(|lowered| &lowered.findings) {
        let text = finding.to_string();
        if !warnings.contains(&text) {
            build.events.send(opened.definition, TaskEvent::Warning(text.as_str().into()));
            warnings.push(text);
        }
    }
    // An argument is of use if it is for one platform.
    let Some((first, others)) = lowered.split_first() else { return warnings };
    let unused: Vec<&str> = first
        .unused_build_args
        .iter()
        .filter(|name| others.iter().all(|other| other.unused_build_args.contains(name)))
        .map(String::as_str)
        .filter(|name| *name != MULTI_PLATFORM && !name.starts_with("BUILDKIT_ATTEST_"))
        .collect();
    if !unused.is_empty() {
        let unused = unused.join(" ");
        warnings.push(format!("[Warning] One or more build-args [{unused}] were not consumed"));
    }
    warnings
}

/// Finds an image: in the store where it was named here, else in its registry.
async fn resolve(
    build: &Build<'_>,
    images: &Images,
    need: &ImageRequest,
) -> Result<ResolvedImage, ImageError> {
    let task =
        build.events.task(format!("[internal] load metadata for {}", need.reference), Vec::new());
    build.events.send(task, TaskEvent::Started);
    match find(build, images, need).await {
        Ok(image) => {
            build.events.send(task, TaskEvent::Done);
            Ok(ResolvedImage { source: image.source, config: image.config })
        }
        Err(error) => {
            let text = transfer::chain_text(&error);
            build.events.send(task, TaskEvent::Failed(Failure::Error(text.into())));
            Err(error)
        }
    }
}

async fn find(
    build: &Build<'_>,
    images: &Images,
    need: &ImageRequest,
) -> Result<BaseImage, ImageError> {
    let request = build.request;
    let context = need.context.as_ref().and_then(|name| request.named_contexts.get(name));
    if let Some(NamedContext::OciLayout(layout)) = context {
        return oci_layouts::find(images, layout, need).await;
    }
    // An image that another build of this call has made is in the store alone.
    let is_made = matches!(context, Some(NamedContext::Kept(_)));
    if (is_made || !request.pull)
        && let Some(image) =
            image_store::base(build.session.store(), &need.reference, &need.platform)
    {
        images.remember(&image);
        return Ok(image);
    }
    images.resolve(&need.reference, &need.platform).await
}

fn dockerfile_request(
    request: &Request,
    opened: &OpenContext,
    folders: &mut BTreeMap<String, ContextFolder>,
) -> Result<dockerfile::LowerRequest, Error> {
    let host = Platform::host();
    let platform = request.platforms.first().map_or_else(|| host.clone(), Platform::normalize);
    let mut asked = dockerfile::LowerRequest::new(platform);
    asked.build_platform = host;
    asked.platform_explicit = !request.platforms.is_empty();
    asked.target.clone_from(&request.target);
    asked.build_args.clone_from(&request.build_args);
    asked.labels.clone_from(&request.labels);
    asked.extra_hosts.clone_from(&request.extra_hosts);
    asked.network = request.network;
    asked.ulimits.clone_from(&request.ulimits);
    asked.shm_size = request.shm_size;
    asked.cgroup_parent.clone_from(&request.cgroup_parent);
    asked.no_cache = match &request.no_cache {
        NoCache::Nothing => dockerfile::NoCache::None,
        NoCache::Everything => dockerfile::NoCache::All,
        NoCache::Stages(stages) => dockerfile::NoCache::Stages(stages.clone()),
    };
    asked.context = opened.context.clone();
    asked.excludes.clone_from(&opened.excludes);
    asked.source_date_epoch = request.source_date_epoch;
    asked.allow_network_host = request.allow_network_host;
    asked.allow_security_insecure = request.allow_security_insecure;
    for (name, context) in &request.named_contexts {
        let context = match context {
            NamedContext::Image(reference) | NamedContext::Kept(reference) => {
                dockerfile::Context::Image(reference.clone())
            }
            NamedContext::Scratch => dockerfile::Context::Scratch,
            NamedContext::Git(source) => dockerfile::Context::Git(source.clone()),
            NamedContext::Http(url) => dockerfile::Context::Http(download_of(url)),
            NamedContext::OciLayout(layout) => {
                dockerfile::Context::OciLayout(oci_layouts::reference(name, layout)?)
            }
            NamedContext::Client(client) => {
                let local = format!("context:{name}");
                folders.insert(local.clone(), ContextFolder::Client(client.clone()));
                let excludes = opened.named_excludes.get(name).cloned().unwrap_or_default();
                dockerfile::Context::Local { name: local, excludes }
            }
            NamedContext::Folder(folder) => {
                if !folder.is_dir() {
                    return Err(Error::NoContext { path: folder.clone() });
                }
                let local = format!("context:{name}");
                folders.insert(local.clone(), ContextFolder::Path(folder.clone()));
                dockerfile::Context::Local {
                    name: local,
                    excludes: crate::context::folder_excludes(folder)?,
                }
            }
        };
        asked.named_contexts.insert(name.clone(), context);
    }
    Ok(asked)
}
