//! Named contexts, the main one, and what steps read of local ones.

use std::collections::BTreeSet;

use graph::{
    Action, ActionInput, ActionKind, CopyAction, FilesOp, Graph, HttpSource, LineRange,
    LocalSource, Operation, Step, StepId,
};
use oci::{ImageConfig, Platform, Reference, shown_text};

use super::steps::StepRequest;
use super::{
    Context, ContextUse, ImageLookupError, ImageRequest, Lowerer, ResolvedImage, initial_config,
};
use crate::error::Error;
use crate::path;

/// A context as a base: its step, and its config where it is an image.
struct LoadedContext {
    output: Option<StepId>,
    config: Option<ImageConfig>,
    local: Option<String>,
}

impl<'a> Lowerer<'a> {
    /// The named context that stands for a stage or an image.
    pub(super) fn named_context(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Option<(String, &'a Context)> {
        let reserved = ["scratch", "context"];
        if self.request.named_contexts.is_empty()
            || reserved.iter().any(|other| other.eq_ignore_ascii_case(name))
        {
            return None;
        }
        let wanted = normal_name(name);
        let platform = platform.unwrap_or(&self.request.platform);
        let mut contexts = self.request.named_contexts.iter();
        let exact = contexts.find(|(key, _)| {
            key.split_once("::").is_some_and(|(key, text)| {
                normal_name(key) == wanted
                    && text.parse::<Platform>().is_ok_and(|other| other.serves(platform))
            })
        });
        let any = || {
            let mut contexts = self.request.named_contexts.iter();
            contexts.find(|(key, _)| !key.contains("::") && normal_name(key) == wanted)
        };
        exact.or_else(any).map(|(key, context)| (key.clone(), context))
    }

    /// A stage that a named context replaces: nothing of the stage is run.
    pub(super) fn replace_stage(
        &mut self,
        stage: usize,
        name: &str,
        context: &Context,
        platform: &Platform,
    ) -> Result<(), Error> {
        let Some(loaded) = self.load(stage, name, context, platform)? else { return Ok(()) };
        let state = &mut self.states[stage];
        state.output = loaded.output;
        state.local = loaded.local;
        if let Some(image) = loaded.config {
            let image = initial_config::inherited(image);
            if !image.os.is_empty() && !image.architecture.is_empty() {
                state.platform = Some(image.platform());
            }
            for (key, value) in image.config.env.iter().map(|text| super::config::key_value(text)) {
                state.env.set(key, value);
            }
            if !image.config.working_dir.is_empty() {
                state.cwd = path::workdir("/", &image.config.working_dir);
            }
            state.user.clone_from(&image.config.user);
            state.set_config(image);
        }
        state.platform.get_or_insert_with(|| platform.clone());
        state.resolved = true;
        state.dispatched = true;
        Ok(())
    }

    /// A base that a named context replaces.
    pub(super) fn replace_base(
        &mut self,
        stage: usize,
        name: &str,
        context: &Context,
        platform: Platform,
    ) -> Result<(), Error> {
        let Some(loaded) = self.load(stage, name, context, &platform)? else { return Ok(()) };
        let state = &mut self.states[stage];
        state.output = loaded.output;
        state.local = loaded.local;
        let image = loaded.config.unwrap_or_else(|| initial_config::empty_image(&platform));
        state.base_config = Some(image.clone());
        state.set_config(initial_config::inherited(image));
        state.platform = Some(platform);
        state.resolved = true;
        state.dispatched = state.unregistered;
        Ok(())
    }

    /// Makes the steps of a context; none while its image is not known.
    fn load(
        &mut self,
        stage: usize,
        name: &str,
        context: &Context,
        platform: &Platform,
    ) -> Result<Option<LoadedContext>, Error> {
        let lines = self.states[stage].lines;
        let source = |output| LoadedContext { output, config: None, local: None };
        Ok(Some(match context {
            Context::Image(reference) | Context::OciLayout(reference) => {
                let found = self.image(stage, reference.clone(), platform, Some(name));
                let Some(found) = found else { return Ok(None) };
                let image =
                    found.map_err(|reason| Error::new(format!("context {name}: {reason}")))?;
                let text = match context {
                    Context::OciLayout(_) => format!("[context {name}] OCI load from client"),
                    _ => format!("[context {name}] {reference}"),
                };
                let layers = !image.config.rootfs.diff_ids.is_empty();
                let output = layers.then(|| self.share_image(image.source, text, lines));
                LoadedContext { output, config: Some(image.config), local: None }
            }
            Context::Local { name: lent, excludes } => {
                let text = format!("[context {name}] load from client");
                let step = self.local(lent, excludes.clone(), text);
                LoadedContext { output: Some(step), config: None, local: Some(lent.clone()) }
            }
            other => source(self.remote(other, &format!("[context {name}] "), lines)),
        }))
    }

    /// The image behind a request; none while it must be looked up.
    pub(super) fn image(
        &mut self,
        stage: usize,
        reference: Reference,
        platform: &Platform,
        context: Option<&str>,
    ) -> Option<Result<ResolvedImage, ImageLookupError>> {
        let state = &self.states[stage];
        let request = ImageRequest {
            reference,
            platform: platform.clone(),
            context: context.map(Into::into),
            lines: state.lines,
            stage: state.display.clone(),
        };
        let known = self.images.get(&request).cloned();
        let same = |other: &ImageRequest| {
            (&other.reference, &other.platform, &other.context)
                == (&request.reference, &request.platform, &request.context)
        };
        if known.is_none() && !self.needs.iter().any(same) {
            self.needs.push(request);
        }
        known
    }

    fn local(&mut self, lent: &str, excludes: Vec<String>, name: String) -> StepId {
        if let Some(step) = self.locals.get(lent) {
            return *step;
        }
        let source = LocalSource { name: lent.into(), excludes, follow_paths: Vec::new() };
        let platform = self.request.platform.clone();
        let asked = StepRequest::by_itself(platform, name);
        let step = self.add(Operation::Local(source), Vec::new(), asked);
        self.locals.insert(lent.into(), step);
        self.local_paths.entry(lent.into()).or_default();
        step
    }

    /// Repositories, downloads, nothing.
    fn remote(
        &mut self,
        context: &Context,
        prefix: &str,
        lines: Option<LineRange>,
    ) -> Option<StepId> {
        let platform = self.request.platform.clone();
        let mut last = None;
        for (operation, name) in remote_operations(context, prefix) {
            let asked = StepRequest { lines, ..StepRequest::by_itself(platform.clone(), name) };
            last = Some(self.share_on(operation, last.into_iter().collect(), asked));
        }
        last
    }

    /// The step of the main context.
    pub(super) fn main_context(&mut self) -> Result<Option<StepId>, Error> {
        let request = self.request;
        Ok(match &request.context {
            Context::Local { name, excludes } => {
                let excludes = request.excludes.iter().chain(excludes).cloned().collect();
                Some(self.local(name, excludes, "[internal] load build context".into()))
            }
            Context::Image(_) | Context::OciLayout(_) => {
                return Err("the build context cannot be an image; name it with \
                            --build-context and read it with COPY --from"
                    .into());
            }
            other => self.remote(other, INTERNAL, None),
        })
    }

    /// Notes that a path of the main context is read.
    pub(super) fn note_context_path(&mut self, path: &str) {
        if let Context::Local { name, .. } = &self.request.context {
            let paths = self.local_paths.entry(name.clone()).or_default();
            paths.insert(path::join("/", path));
        }
    }

    /// Notes that a path of a stage is read, for the case that it is a local folder.
    pub(super) fn note_stage_path(&mut self, stage: usize, path: &str) {
        if let Some(lent) = self.local_of(stage) {
            self.local_paths.entry(lent).or_default().insert(path::join("/", path));
        }
    }

    /// The local folder that a stage began with.
    fn local_of(&self, mut stage: usize) -> Option<String> {
        while let Some(base) = self.states[stage].base {
            stage = base;
        }
        self.states[stage].local.clone()
    }

    /// Tells the steps of local folders which paths are read.
    pub(super) fn follow_paths(&mut self, target: usize) -> Vec<ContextUse> {
        self.note_stage_path(target, "/");
        let mut uses = Vec::new();
        for (name, step) in &self.locals {
            let empty = BTreeSet::new();
            let paths = self.local_paths.get(name).unwrap_or(&empty);
            let follow: Vec<String> = match paths.contains("/") {
                true => Vec::new(),
                false => paths.iter().map(|path| path[1..].to_owned()).collect(),
            };
            if let Operation::Local(source) = &mut self.graph.step_mut(*step).operation {
                source.follow_paths.clone_from(&follow);
            }
            uses.push(ContextUse { name: name.clone(), step: *step, follow_paths: follow });
        }
        uses
    }
}

/// Before the names of the steps that load the main context.
const INTERNAL: &str = "[internal] ";

/// The operations that fetch a repository or a download, with their display names; each reads the
/// output of the one before it.
fn remote_operations(context: &Context, prefix: &str) -> Vec<(Operation, String)> {
    let internal = prefix == INTERNAL;
    let download = |source: &HttpSource| {
        let name = match internal {
            true => format!("{prefix}load remote build context"),
            false => format!("{prefix}{}", shown_text(&source.url)),
        };
        (Operation::Http(source.clone()), name)
    };
    match context {
        Context::Git(source) => {
            let loads = if internal { "load git source " } else { "" };
            let name = format!("{prefix}{loads}{}", source.shown());
            vec![(Operation::Git(source.clone()), name)]
        }
        Context::Http(source) => vec![download(source)],
        Context::Archive(source) => {
            let path = path::join("/", &source.filename);
            let name = format!("copy {path} /");
            let copy = CopyAction {
                from: ActionInput::Input(0),
                source: path,
                destination: "/".into(),
                unpack: true,
                ..CopyAction::default()
            };
            let action =
                Action { base: ActionInput::Scratch, kind: ActionKind::Copy(Box::new(copy)) };
            let unpack = Operation::Files(FilesOp { actions: vec![action] });
            vec![download(source), (unpack, name)]
        }
        Context::Image(_) | Context::OciLayout(_) | Context::Scratch | Context::Local { .. } => {
            Vec::new()
        }
    }
}

impl Context {
    /// The steps of a repository or a download as the main context, in a graph of their own: the
    /// Dockerfile is read from it before there is another graph, whose steps are the same. None
    /// for what is on this machine.
    pub fn graph(&self, platform: &Platform) -> Option<(Graph, StepId)> {
        let mut graph = Graph::new();
        let mut last = None;
        for (operation, name) in remote_operations(self, INTERNAL) {
            last = Some(graph.add(Step {
                operation,
                inputs: last.into_iter().collect(),
                platform: platform.clone(),
                name,
                lines: None,
                ignore_cache: false,
                shown_as: None,
            }));
        }
        last.map(|last| (graph, last))
    }
}

/// A name as references are compared: without defaults.
fn normal_name(name: &str) -> String {
    match name.parse::<Reference>() {
        Ok(reference) => {
            let familiar = reference.familiar();
            familiar.strip_suffix(":latest").unwrap_or(&familiar).into()
        }
        Err(_) => name.to_lowercase(),
    }
}
