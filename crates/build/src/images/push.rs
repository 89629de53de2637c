//! Images into registries.

use export::PushRequest;
use layer::Compression;
use oci::{Descriptor, Reference};
use transfer::{LayerFormat, Transfer};

use super::{ImageError, Porter};
use crate::image_store;

impl Porter {
    /// Pushes an image or an index under its name, byte for byte as it is kept.
    ///
    /// # Errors
    /// If there is no such image, a layer of it cannot be found, or the registry refuses.
    pub async fn push(&self, name: &Reference, insecure: bool) -> Result<Descriptor, ImageError> {
        let image = image_store::find(&self.store, name)
            .ok_or_else(|| ImageError::NothingToPush(name.familiar()))?;
        self.shown(format!("pushing {name}"), async |task| {
            let mut documents = image.documents(&self.store)?;
            let names = std::slice::from_ref(name);
            let transfer =
                Transfer::new(self.store.clone(), self.client.clone(), self.events.clone());
            let request = PushRequest {
                documents: &documents,
                // All layers have the blobs that the manifest names: nothing is compressed.
                layers: LayerFormat { compression: Compression::Gzip(None), force: false },
                names,
                by_digest: false,
                insecure,
                task: Some(task),
            };
            export::push(&transfer, &self.events, &request)
                .await
                .map_err(|error| ImageError::Push(Box::new(error)))?;
            // From now on its layers can be fetched from there.
            for image in &mut documents.images {
                image.layers = image_store::also_at(&image.layers, names, insecure);
            }
            image_store::keep(&self.store, &[], &documents)?;
            Ok(documents.root.descriptor)
        })
        .await
    }
}
