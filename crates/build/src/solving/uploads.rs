//! Layers on their way while the build goes on: the end of a build has little left to do.

use std::collections::BTreeSet;

use cache::BackendSettings;
use graph::{Graph, StepId};
use layer::Chain;
use transfer::{Destination, LayerFormat, PushTarget, RegistryUpload, Transfer};

use crate::Request;
use crate::request::{CacheMode, CacheTarget, Output};

/// The destinations of layers as soon as they are made.
pub(crate) struct Uploads {
    transfer: Transfer,
    /// Every layer.
    all: Vec<(PushTarget, LayerFormat)>,
    /// Layers of the result.
    result: Vec<(PushTarget, LayerFormat)>,
    /// The steps that make the result's layers.
    on_result: BTreeSet<StepId>,
}

impl Uploads {
    /// The destinations that a request has for layers of a graph's results, and of all its steps.
    pub(crate) fn new(
        request: &Request,
        transfer: &Transfer,
        graph: &Graph,
        results: &[StepId],
    ) -> Self {
        let mut uploads = Self {
            transfer: transfer.clone(),
            all: Vec::new(),
            result: Vec::new(),
            on_result: on_results(graph, results),
        };
        for destination in destinations(request) {
            transfer.keep_for(destination);
        }
        for cache in &request.cache_to {
            if let CacheTarget::Backend(BackendSettings::Registry(to)) = &cache.target {
                let repository = to.reference.repository().clone();
                let target = PushTarget { repository, insecure: to.insecure };
                let format = LayerFormat {
                    compression: cache.format.compression,
                    force: cache.format.force_compression,
                };
                let list = if cache.mode == CacheMode::Max {
                    &mut uploads.all
                } else {
                    &mut uploads.result
                };
                list.push((target, format));
            }
        }
        for output in &request.outputs {
            if let Output::Image(image) = output
                && image.push
                // These are written again, and then sent.
                && !image.options.rewrite_timestamp
            {
                let names = if image.names.is_empty() { &request.tags } else { &image.names };
                let repositories: BTreeSet<_> =
                    names.iter().map(|name| name.repository().clone()).collect();
                let format = LayerFormat {
                    compression: image.format.compression,
                    force: image.format.force_compression,
                };
                uploads.result.extend(repositories.into_iter().map(|repository| {
                    (PushTarget { repository, insecure: image.insecure }, format)
                }));
            }
        }
        uploads
    }

    /// Sends the highest layer of a chain that was just made. Whether it went well shows when
    /// the export asks for it.
    pub(crate) fn start(&self, id: StepId, chain: &Chain) {
        let result = self.on_result.contains(&id).then_some(&self.result).into_iter().flatten();
        for (target, format) in self.all.iter().chain(result).cloned() {
            let (transfer, chain) = (self.transfer.clone(), chain.clone());
            tokio::spawn(async move {
                let layers = chain.layers();
                let Some(top) = layers.len().checked_sub(1) else { return };
                let _ = transfer
                    .upload(&layers, top, format, RegistryUpload { target: &target, task: None })
                    .await;
            });
        }
    }
}

/// The destinations of layers as they are, those of bases included.
fn destinations(request: &Request) -> Vec<Destination> {
    let caches = request.cache_to.iter().filter_map(|cache| match &cache.target {
        CacheTarget::Backend(BackendSettings::Registry(to)) => {
            Some(Destination::Registry(to.reference.repository().host().to_owned()))
        }
        CacheTarget::Backend(_) => Some(Destination::Elsewhere),
        CacheTarget::Inline => None,
    });
    let outputs = request.outputs.iter().flat_map(|output| match output {
        Output::Image(image) if image.push => {
            let names = if image.names.is_empty() { &request.tags } else { &image.names };
            let hosts = names.iter().map(|name| name.repository().host().to_owned());
            hosts.map(Destination::Registry).collect()
        }
        Output::Oci(_) | Output::Docker(_) => vec![Destination::Elsewhere],
        Output::Image(_) | Output::Local(_) | Output::Tar(_) | Output::CacheOnly => Vec::new(),
    });
    caches.chain(outputs).collect()
}

/// The steps that results' layers come from: the first inputs, and all of merges.
pub(crate) fn on_results(graph: &Graph, results: &[StepId]) -> BTreeSet<StepId> {
    let mut steps = BTreeSet::new();
    let mut open = results.to_vec();
    while let Some(id) = open.pop() {
        if steps.insert(id) {
            let step = graph.step(id);
            match step.operation {
                graph::Operation::Merge => open.extend(&step.inputs),
                _ => open.extend(step.inputs.first()),
            }
        }
    }
    steps
}
