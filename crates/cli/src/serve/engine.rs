//! The images and builds of this machine, for the Engine API: the code behind kiln's own commands.

use std::future::Future;
use std::sync::Arc;

use ::engine::{
    ApiError, ArchiveWriter, BuildCacheItem, BuildCachePrune, BuildRequest, BuildWay, DiskUsage,
    DistributionInspect, DockerEngine, Filters, HistoryStep, ImageSummary, Login, LoginStatus,
    Message, ProgressSender, PrunedCache, PrunedImages, PullRequest, PushRequest, RemovedImage,
    Upload,
};
use async_trait::async_trait;
use build::images::{self, DiskEntry, DiskKind, ImageError, Kept, Limits, Porter, PruneRequest};
use graph::Events;
use oci::{Platform, Reference};
use registry::Credentials;
use serde_json::{Value, json};
use service::Daemon;
use store::Store;

use super::api_error::{bad, failed, image_error, pull_error, reference, refused};
use super::blocking::{blocking, on_thread};
use super::build_request;
use super::builder_container::{is_buildkit_image, own_image};
use super::logins::{credentials, logins_for};
use super::messages::{self, PULL, PUSH};
use super::resources::Resources;
use super::session_build;
use crate::args::disk_filter;
use crate::commands::images::{Filters as ImageFilters, remove_unnamed};
use crate::commands::{archives, history, inspect, login, seconds, transfer};
use crate::facts;
use crate::settings::Settings;

/// The Engine API's work on this machine.
pub(super) struct LocalEngine {
    resources: Arc<Resources>,
    daemon: Arc<Daemon>,
}

impl LocalEngine {
    pub(super) fn new(resources: Arc<Resources>, daemon: Arc<Daemon>) -> Self {
        Self { resources, daemon }
    }

    /// Works on a store of its own, on a thread that may block.
    async fn on_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let resources = self.resources.clone();
        blocking(move || work(&resources.store()?)).await
    }

    /// Moves images, on a thread of its own.
    async fn carry<T, F>(
        &self,
        logins: Vec<(String, Credentials)>,
        events: Events,
        work: impl FnOnce(Porter) -> F + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ApiError>>,
    {
        let resources = self.resources.clone();
        on_thread(move || async move {
            let porter =
                Porter { store: resources.store()?, client: resources.client(logins), events };
            work(porter).await
        })
        .await
    }
}

#[async_trait]
impl DockerEngine for LocalEngine {
    fn version(&self) -> Value {
        facts::version()
    }

    async fn info(&self) -> Result<Value, ApiError> {
        let resources = self.resources.clone();
        let settings = self.resources.settings.clone();
        blocking(move || {
            let count = images::count(&resources.store()?).map_err(failed)?;
            let mut info = facts::info(&settings, count);
            info["SystemTime"] = jiff::Timestamp::now().to_string().into();
            info["RegistryConfig"] = registry_config(&settings);
            // Clients warn of what is false. Steps have kiln's own network, and no limits.
            for name in ["IPv4Forwarding", "BridgeNfIptables", "BridgeNfIp6tables"] {
                info[name] = true.into();
            }
            Ok(info)
        })
        .await
    }

    async fn login(&self, login: Login) -> Result<LoginStatus, ApiError> {
        let server = Some(login.serveraddress.as_str()).filter(|server| !server.is_empty());
        let host = login::host(server).map_err(bad)?;
        let credentials = credentials(&login)
            .ok_or_else(|| ApiError::BadRequest("user and password are missing".into()))?;
        let client = self.resources.client([(host.clone(), credentials)]);
        client.ping(&host).await.map_err(|error| {
            let text = format!("login attempt to `{host}` failed: {}", oci::chain_text(&error));
            if error.is_unauthorized() {
                ApiError::Unauthorized(text)
            } else {
                ApiError::Server(text)
            }
        })?;
        Ok(LoginStatus { status: "Login Succeeded".into(), identity_token: String::new() })
    }

    async fn disk_usage(&self) -> Result<DiskUsage, ApiError> {
        self.on_store(|store| {
            let images =
                images::each(store).map_err(failed)?.map(|image| summary(&image)).collect();
            let entries = images::usage(store).map_err(image_error)?;
            let of_image = |entry: &&DiskEntry| {
                entry.kind != DiskKind::CacheMount && !entry.description.is_empty()
            };
            let layers_size = entries.iter().filter(of_image).map(|entry| entry.size).sum();
            let cache = entries.iter().filter(|entry| !of_image(entry));
            let build_cache: Vec<_> = cache.map(cache_item).collect();
            Ok(DiskUsage {
                layers_size,
                images,
                builder_size: build_cache.iter().map(|item| item.size).sum(),
                build_cache,
                ..DiskUsage::default()
            })
        })
        .await
    }

    async fn list_images(&self, filters: Filters) -> Result<Vec<ImageSummary>, ApiError> {
        let filters = ImageFilters::read(&filters.texts()).map_err(bad)?;
        self.on_store(move |store| {
            let passing = filters.resolve(store).map_err(refused)?;
            let mut found = Vec::new();
            let images = images::each(store).map_err(failed)?;
            for mut image in images.filter(|image| passing.passes(image)) {
                let had_names = !image.names.is_empty();
                image.names.retain(|name| filters.wants_name(Some(name)));
                let is_wanted = !image.names.is_empty() || (!had_names && filters.wants_name(None));
                found.extend(is_wanted.then(|| summary(&image)));
            }
            // The newest first, as in docker.
            found.sort_by_key(|image| std::cmp::Reverse(image.created));
            Ok(found)
        })
        .await
    }

    async fn inspect_image(&self, name: String) -> Result<Value, ApiError> {
        self.on_store(move |store| {
            let found = match images::look_up(store, &name) {
                Err(ImageError::NotHere(_)) if is_buildkit(&name) => {
                    return Ok(own_image::object(&name));
                }
                found => found.map_err(image_error)?,
            };
            let mut value = inspect::object(found.image);
            value["VirtualSize"] = value["Size"].clone();
            value["Metadata"] = json!({ "LastTagTime": "0001-01-01T00:00:00Z" });
            value["GraphDriver"] = json!({ "Name": "kiln", "Data": null });
            Ok(value)
        })
        .await
    }

    async fn image_history(&self, name: String) -> Result<Vec<HistoryStep>, ApiError> {
        self.on_store(move |store| {
            let image = images::look_up(store, &name).map_err(image_error)?.image;
            let steps = history::steps(&image.config, image.layer_sizes());
            let step = |(place, (step, size)): (usize, (&oci::History, u64))| HistoryStep {
                id: if place == 0 { image.id.to_string() } else { "<missing>".to_owned() },
                created: step.created.as_deref().and_then(seconds).unwrap_or(0),
                created_by: step.created_by.clone(),
                tags: (place == 0).then(|| image.names.iter().map(Reference::familiar).collect()),
                size,
                comment: step.comment.clone(),
            };
            Ok(steps.into_iter().rev().enumerate().map(step).collect())
        })
        .await
    }

    async fn tag_image(&self, source: String, target: String) -> Result<(), ApiError> {
        let target = reference(&target)?;
        self.on_store(move |store| images::tag(store, &source, &target).map_err(image_error)).await
    }

    async fn remove_image(&self, name: String, force: bool) -> Result<Vec<RemovedImage>, ApiError> {
        self.on_store(move |store| {
            let removed = images::remove(store, &name, force).map_err(image_error)?;
            Ok(removed_images(&removed))
        })
        .await
    }

    async fn prune_images(&self, filters: Filters) -> Result<PrunedImages, ApiError> {
        let filters = ImageFilters::read(&filters.texts()).map_err(bad)?;
        self.on_store(move |store| {
            let all = filters.dangling() == Some(false);
            let removed = remove_unnamed(store, all, &filters).map_err(refused)?;
            let images_deleted = removed.iter().flat_map(removed_images).collect();
            // The layers of the images are freed by the next prune of the build cache.
            Ok(PrunedImages { images_deleted, space_reclaimed: 0 })
        })
        .await
    }

    async fn pull(&self, request: PullRequest, progress: ProgressSender) -> Result<(), ApiError> {
        let name = reference(&request.name)?;
        if is_buildkit_image(&name) {
            own_image::say(&name, &progress);
            return Ok(());
        }
        let platform =
            request.platform.as_deref().map(str::parse::<Platform>).transpose().map_err(bad)?;
        let defaults = &self.resources.settings.default_platforms;
        let pull = images::PullRequest {
            name: name.clone(),
            platform: platform.or_else(|| defaults.first().cloned()),
            insecure: false,
        };
        let logins = logins_for(&name, request.login.as_ref());
        let repository = Reference::new(name.repository().clone(), None, None).familiar();
        let first = Message {
            id: Some(name.target()),
            ..Message::status(format!("Pulling from {repository}"))
        };
        let events = messages::transfers(progress.clone(), PULL);
        self.carry(logins, events, move |porter| async move {
            // Before the first message the answer still can have an error's status.
            porter.client.resolve(&name).await.map_err(|error| pull_error(&name, &error))?;
            progress.send(&first);
            let pulled = porter.pull(&pull).await.map_err(image_error)?;
            progress.send(&Message::status(format!("Digest: {}", pulled.root.digest)));
            let status = transfer::pull_status(&name, pulled.is_new);
            progress.send(&Message::status(status));
            Ok(())
        })
        .await
    }

    async fn push(&self, request: PushRequest, progress: ProgressSender) -> Result<(), ApiError> {
        let named = reference(&request.name)?;
        // A tag beside the name counts, as in dockerd, even if the name has one.
        let name = match &request.tag {
            Some(tag) => reference(&format!("{}:{tag}", named.repository()))?,
            None => named,
        };
        let last = request.name.rsplit('/').next().unwrap_or_default();
        let is_all = request.tag.is_none() && !last.contains([':', '@']);
        let wanted = name.clone();
        let names = self
            .on_store(move |store| {
                if is_all {
                    return transfer::tags(store, &wanted).map_err(image_error);
                }
                match images::find(store, &wanted) {
                    Some(_) => Ok(vec![wanted]),
                    None => Err(image_error(ImageError::NothingToPush(wanted.familiar()))),
                }
            })
            .await?;
        let logins = logins_for(&name, request.login.as_ref());
        let events = messages::transfers(progress.clone(), PUSH);
        let repository = name.repository();
        let first = format!("The push refers to repository [{repository}]");
        progress.send(&Message::status(first));
        self.carry(logins, events, move |porter| async move {
            for name in &names {
                let manifest = porter.push(name, false).await.map_err(image_error)?;
                let line = transfer::pushed(name, &manifest);
                progress.send(&Message::status(line.trim_end()));
                let tag = name.tag().map_or_else(|| name.target(), str::to_owned);
                let digest = manifest.digest.to_string();
                let aux = json!({ "Tag": tag, "Digest": digest, "Size": manifest.size });
                progress.send(&Message::aux(aux));
            }
            Ok(())
        })
        .await
    }

    async fn save(&self, names: Vec<String>, out: ArchiveWriter) -> Result<(), ApiError> {
        self.carry(Vec::new(), Events::none(), move |porter| async move {
            let wanted = archives::wanted(&porter.store, &names).map_err(image_error)?;
            porter.save(wanted, out).await.map_err(image_error)
        })
        .await
    }

    async fn load(
        &self,
        archive: Upload,
        progress: ProgressSender,
    ) -> Result<Vec<String>, ApiError> {
        self.on_store(move |store| {
            let loaded = images::load(store, archive).map_err(image_error)?;
            for image in &loaded {
                progress.send(&Message::stream(archives::loaded(image)));
            }
            let names = loaded.iter().flat_map(|image| &image.names);
            Ok(names.map(Reference::familiar).collect())
        })
        .await
    }

    async fn inspect_distribution(
        &self,
        name: String,
        login: Option<Login>,
    ) -> Result<DistributionInspect, ApiError> {
        let name = reference(&name)?;
        let logins = logins_for(&name, login.as_ref());
        self.carry(logins, Events::none(), move |porter| async move {
            let resolved = porter.client.resolve(&name).await;
            let descriptor = resolved.map_err(|error| pull_error(&name, &error))?;
            let members = porter.members(&name).await.map_err(image_error)?;
            let platforms = members.iter().filter_map(|member| member.descriptor.platform.as_ref());
            let platforms = platforms.map(|platform| json!(platform)).collect();
            let descriptor = json!({
                "mediaType": descriptor.media_type, "digest": descriptor.digest,
                "size": descriptor.size,
            });
            Ok(DistributionInspect { descriptor, platforms })
        })
        .await
    }

    async fn build(
        &self,
        request: BuildRequest,
        progress: ProgressSender,
    ) -> Result<Vec<String>, ApiError> {
        match request.way {
            BuildWay::BuildKit => session_build::run(self.daemon.clone(), request, progress).await,
            BuildWay::Classic => {
                let resources = self.resources.clone();
                on_thread(move || build_request::run(resources, request, progress)).await
            }
        }
    }

    async fn prune_build_cache(&self, request: BuildCachePrune) -> Result<PrunedCache, ApiError> {
        let filter = disk_filter(&request.filters.texts()).map_err(bad)?;
        let limits = Limits {
            max_used: request.max_used,
            min_free: request.min_free,
            reserved: request.reserved,
        };
        let request = PruneRequest { all: request.all, limits, filter };
        self.on_store(move |store| {
            let removed = images::prune(store, request).map_err(image_error)?;
            Ok(PrunedCache {
                space_reclaimed: removed.iter().map(|entry| entry.size).sum(),
                caches_deleted: removed.into_iter().map(|entry| entry.id).collect(),
            })
        })
        .await
    }
}

/// True for the name of BuildKit's image.
fn is_buildkit(name: &str) -> bool {
    name.parse().is_ok_and(|name: Reference| is_buildkit_image(&name))
}

/// The registries in docker's form, in which the list of networks can hold nothing else.
fn registry_config(settings: &Settings) -> Value {
    let index = |name: &str, is_secure: bool, mirrors: &[&str]| {
        let is_official = name == "docker.io";
        json!({ "Name": name, "Mirrors": mirrors, "Secure": is_secure, "Official": is_official })
    };
    let of_hub = settings.mirrors.iter().filter(|(registry, _)| registry == "docker.io");
    let mirrors: Vec<&str> = of_hub.map(|(_, mirror)| mirror.as_str()).collect();
    let mut indexes = serde_json::Map::new();
    indexes.insert("docker.io".to_owned(), index("docker.io", true, &mirrors));
    for name in &settings.insecure_registries {
        indexes.insert(name.clone(), index(name, false, &[]));
    }
    json!({
        "InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"], "IndexConfigs": indexes,
        "Mirrors": mirrors,
    })
}

fn summary(image: &Kept) -> ImageSummary {
    let config = serde_json::to_value(&image.config.config).unwrap_or_default();
    let size = image.size();
    ImageSummary {
        id: image.id.to_string(),
        parent_id: String::new(),
        repo_tags: inspect::tags(&image.names),
        repo_digests: inspect::digests(&image.names, image.manifest.digest),
        created: image.config.created.as_deref().and_then(seconds).unwrap_or(0),
        size,
        virtual_size: size,
        shared_size: -1,
        containers: -1,
        labels: serde_json::from_value(config["Labels"].clone()).unwrap_or_default(),
    }
}

fn removed_images(removed: &images::Removed) -> Vec<RemovedImage> {
    let names = removed.untagged.iter().map(|name| RemovedImage::Untagged(name.familiar()));
    let ids = removed.deleted.iter().map(|id| RemovedImage::Deleted(id.to_string()));
    names.chain(ids).collect()
}

fn cache_item(entry: &DiskEntry) -> BuildCacheItem {
    let time = jiff::Timestamp::from_millisecond(entry.last_used).unwrap_or_default().to_string();
    BuildCacheItem {
        id: entry.id.clone(),
        kind: match entry.kind {
            DiskKind::CacheMount => "exec.cachemount".into(),
            DiskKind::Blob | DiskKind::Layer | DiskKind::Index => "regular".into(),
        },
        description: if entry.description.is_empty() {
            entry.kind.to_string()
        } else {
            entry.description.clone()
        },
        in_use: !entry.reclaimable,
        shared: false,
        size: entry.size,
        created_at: time.clone(),
        last_used_at: time,
        usage_count: 1,
    }
}
