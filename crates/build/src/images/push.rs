//! Images into registries.

use export::{Format, Image, PushRequest};
use oci::{Descriptor, Reference, media_type};
use store::Compression;
use transfer::{LayerFormat, Transfer};

use super::{ImageError, Porter};
use crate::shelf;

impl Porter {
    /// Pushes an image under its name, byte for byte as it is kept.
    ///
    /// # Errors
    /// If there is no such image, a layer of it is nowhere, or the registry refuses.
    pub async fn push(&self, name: &Reference, insecure: bool) -> Result<Descriptor, ImageError> {
        let image = shelf::find(&self.store, name)
            .ok_or_else(|| ImageError::NothingToPush(name.familiar()))?;
        self.shown(format!("pushing {name}"), async |task| {
            let documents = image.documents(&self.store)?;
            let names = std::slice::from_ref(name);
            let transfer =
                Transfer::new(self.store.clone(), self.client.clone(), self.events.clone());
            let pushed = Image {
                config: image.config.clone(),
                layers: image.layers.clone(),
                epoch: None,
                base_history: 0,
            };
            let request = PushRequest {
                image: &pushed,
                // All layers have the blobs that the manifest names: nothing is compressed.
                format: Format {
                    layers: LayerFormat { compression: Compression::Gzip(None), force: false },
                    oci_mediatypes: documents.descriptor.media_type == media_type::OCI_MANIFEST,
                },
                names,
                by_digest: false,
                insecure,
                task: Some(task),
            };
            export::push_documents(&transfer, &self.events, &request, &documents)
                .await
                .map_err(|error| ImageError::Push(Box::new(error)))?;
            // From now on its layers can be fetched from there.
            let layers = shelf::also_at(&image.layers, names, insecure);
            shelf::keep(&self.store, &[], &documents, &layers)?;
            Ok(documents.descriptor)
        })
        .await
    }
}
