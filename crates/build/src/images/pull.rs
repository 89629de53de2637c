//! Images from registries.

use futures_util::future;
use oci::{Descriptor, Platform, Reference};
use transfer::Transfer;

use super::{ImageError, Porter};
use crate::image_store;

/// A request to pull an image.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// The image, and the name that it has here then.
    pub name: Reference,
    /// The platform; this machine's if none is given.
    pub platform: Option<Platform>,
    /// True if plain HTTP or an untrusted certificate is accepted.
    pub insecure: bool,
}

/// An image that was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The manifest or index that the name has in the registry.
    pub root: Descriptor,
    /// True if the name was new here, or had another image.
    pub is_new: bool,
}

impl Porter {
    /// Fetches an image with its layers, so that it is whole without its registry.
    ///
    /// # Errors
    /// If the registry does not give it or a layer of it, or it is for another platform.
    pub async fn pull(&self, request: &PullRequest) -> Result<Pulled, ImageError> {
        let name = &request.name;
        self.shown(format!("pulling {name}"), async |task| {
            let client = self.client.for_host(name.repository().host(), request.insecure);
            let platform = request.platform.clone().unwrap_or_else(Platform::host);
            let fetched = execute::Images::new(client)
                .fetch(name, &platform, request.insecure)
                .await
                .map_err(|error| ImageError::Pull(Box::new(error)))?;
            let actual = fetched.image.config.platform();
            if let Some(wanted) = &request.platform
                && !actual.serves(&wanted.normalize())
                && !oci::media_type::is_index(&fetched.root.media_type)
            {
                let (name, wanted, actual) =
                    (name.familiar(), wanted.to_string(), actual.to_string());
                return Err(ImageError::Platform { name, wanted, actual });
            }
            let transfer =
                Transfer::new(self.store.clone(), self.client.clone(), self.events.clone());
            let layers = fetched.image.layers;
            let fetches = layers.iter().map(|layer| transfer.fetch_blob(layer, Some(task)));
            future::try_join_all(fetches)
                .await
                .map_err(|error| ImageError::Layer(Box::new(error)))?;
            let before = image_store::find(&self.store, name).map(|image| image.manifest.digest);
            let is_new = before != Some(fetched.descriptor.digest);
            let documents = export::Manifested {
                manifest: fetched.manifest,
                descriptor: fetched.descriptor,
                config: fetched.config,
                config_descriptor: fetched.config_descriptor,
                layers: Vec::new(),
            };
            // A name with tag and digest is kept with both, as a build asks for it.
            let documents = export::Documents::single(actual, documents, layers);
            image_store::keep(&self.store, std::slice::from_ref(name), &documents)?;
            Ok(Pulled { root: fetched.root, is_new })
        })
        .await
    }
}
