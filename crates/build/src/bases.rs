//! From a Dockerfile to a graph, with the images that it stands on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use dockerfile::{Dockerfile, ImageRequest, Lowered, Lowering, ResolvedImage};
use execute::{BaseImage, Images, Sources};
use futures_util::future::join_all;
use graph::{Failure, Operation, SourceFile, TaskEvent};
use oci::Platform;

use crate::context::{Opened, download_of};
use crate::request::{NamedContext, NoCache};
use crate::{Error, Host, Request, layouts, shelf};

/// A graph and what is known around it.
pub(crate) struct Bases {
    pub lowered: Lowered,
    pub images: Arc<Images>,
    /// Folders by the names of contexts.
    pub folders: BTreeMap<String, PathBuf>,
    pub file: SourceFile,
    /// What came from servers.
    pub sources: Arc<Sources>,
    /// What progress has shown already.
    pub shown: Vec<Operation>,
    /// What the user should know of the Dockerfile.
    pub warnings: Vec<String>,
}

/// Lowers a Dockerfile, resolving the images that it needs until it needs no more.
pub(crate) async fn lower(
    host: &Host,
    request: &Request,
    opened: &Opened,
    dockerfile: &Dockerfile,
) -> Result<Bases, Error> {
    let mut asking = Asking::new(host, request, opened)?;
    let lowered = loop {
        let lowering = dockerfile
            .lower(&asking.asked, &asking.resolved)
            .map_err(|error| Error::in_dockerfile(error, &opened.dockerfile))?;
        match lowering {
            Lowering::Done(lowered) => break *lowered,
            Lowering::Needs(needs) => asking.look_up(&needs).await,
        }
    };
    for finding in &lowered.findings {
        let text = finding.to_string();
        host.events.send(opened.definition, TaskEvent::Warning(text.into()));
    }
    let warnings = warnings(&lowered);
    let Asking { images, folders, .. } = asking;
    Ok(Bases {
        lowered,
        images,
        folders,
        file: opened.dockerfile.clone(),
        sources: opened.sources.clone(),
        shown: opened.shown.clone(),
        warnings,
    })
}

/// What a Dockerfile is read against, while images are looked up.
pub(crate) struct Asking<'a> {
    host: &'a Host,
    request: &'a Request,
    pub asked: dockerfile::Request,
    pub resolved: dockerfile::Images,
    images: Arc<Images>,
    folders: BTreeMap<String, PathBuf>,
}

impl<'a> Asking<'a> {
    pub(crate) fn new(
        host: &'a Host,
        request: &'a Request,
        opened: &Opened,
    ) -> Result<Self, Error> {
        let mut folders = BTreeMap::new();
        folders.extend(opened.folder.clone().map(|folder| ("context".to_owned(), folder)));
        let asked = dockerfile_request(request, opened, &mut folders)?;
        let images = Arc::new(Images::new(host.client.clone()));
        Ok(Self { host, request, asked, resolved: dockerfile::Images::new(), images, folders })
    }

    /// Finds images, or keeps why they cannot be found.
    pub(crate) async fn look_up(&mut self, needs: &[ImageRequest]) {
        let find = |need| resolve(self.host, self.request, &self.images, need);
        let found = join_all(needs.iter().map(find)).await;
        for (need, found) in needs.iter().zip(found) {
            self.resolved.insert(need, found);
        }
    }
}

fn warnings(lowered: &Lowered) -> Vec<String> {
    let of_file = lowered.findings.iter().map(ToString::to_string);
    let unused = (!lowered.unused_build_args.is_empty()).then(|| {
        format!(
            "[Warning] One or more build-args [{}] were not consumed",
            lowered.unused_build_args.join(" ")
        )
    });
    of_file.chain(unused).collect()
}

/// Finds an image: in the store where it was named here, else in its registry.
async fn resolve(
    host: &Host,
    request: &Request,
    images: &Images,
    need: &ImageRequest,
) -> Result<ResolvedImage, String> {
    let task =
        host.events.task(format!("[internal] load metadata for {}", need.reference), Vec::new());
    host.events.send(task, TaskEvent::Started);
    match find(host, request, images, need).await {
        Ok(image) => {
            host.events.send(task, TaskEvent::Done);
            Ok(ResolvedImage { source: image.source, config: image.config })
        }
        Err(message) => {
            host.events.send(task, TaskEvent::Failed(Failure::Error(message.as_str().into())));
            Err(message)
        }
    }
}

async fn find(
    host: &Host,
    request: &Request,
    images: &Images,
    need: &ImageRequest,
) -> Result<BaseImage, String> {
    let context = need.context.as_ref().and_then(|name| request.named_contexts.get(name));
    if let Some(NamedContext::OciLayout(layout)) = context {
        return layouts::find(images, layout, need).await;
    }
    if !request.pull
        && let Some(image) = shelf::base(&host.store, &need.reference, &need.platform)
    {
        images.remember(&image);
        return Ok(image);
    }
    images
        .resolve(&need.reference, &need.platform)
        .await
        .map_err(|error| transfer::chain_text(&error))
}

fn dockerfile_request(
    request: &Request,
    opened: &Opened,
    folders: &mut BTreeMap<String, PathBuf>,
) -> Result<dockerfile::Request, Error> {
    let host = Platform::host();
    let platform = match request.platforms.as_slice() {
        [] => host.clone(),
        [platform] => platform.normalize(),
        _ => {
            return Err(Error::Request(
                "`--platform` with several values: kiln builds one platform at a time yet".into(),
            ));
        }
    };
    let mut asked = dockerfile::Request::new(platform);
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
            NamedContext::Image(reference) => dockerfile::Context::Image(reference.clone()),
            NamedContext::Scratch => dockerfile::Context::Scratch,
            NamedContext::Git(source) => dockerfile::Context::Git(source.clone()),
            NamedContext::Http(url) => dockerfile::Context::Http(download_of(url)),
            NamedContext::OciLayout(layout) => {
                dockerfile::Context::OciLayout(layouts::reference(name, layout)?)
            }
            NamedContext::Folder(folder) => {
                if !folder.is_dir() {
                    return Err(Error::NoContext { path: folder.clone() });
                }
                let local = format!("context:{name}");
                folders.insert(local.clone(), folder.clone());
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
