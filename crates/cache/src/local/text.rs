//! Layers as the tables keep them.

use layer::{Layer, Place};
use oci::{Descriptor, Digest, Repository};
use serde::{Deserialize, Serialize};

/// A layer as the table keeps it.
#[derive(Serialize, Deserialize)]
pub(super) struct LayerText {
    diff_id: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    blob: Option<Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    places: Vec<PlaceText>,
}

#[derive(Serialize, Deserialize)]
enum PlaceText {
    Registry { host: String, path: String, insecure: bool },
    Layout(std::path::PathBuf),
    Remote(String),
}

impl From<&Layer> for LayerText {
    fn from(layer: &Layer) -> Self {
        let place = |place: &Place| match place {
            Place::Registry { repository, insecure } => PlaceText::Registry {
                host: repository.host().into(),
                path: repository.path().into(),
                insecure: *insecure,
            },
            Place::Layout(folder) => PlaceText::Layout(folder.clone()),
            Place::Remote(name) => PlaceText::Remote(name.to_string()),
        };
        Self {
            diff_id: layer.diff_id,
            blob: layer.blob.clone(),
            created: layer.created.clone(),
            places: layer.places.iter().map(place).collect(),
        }
    }
}

impl LayerText {
    pub(super) fn layer(self) -> Layer {
        let place = |place| match place {
            PlaceText::Registry { host, path, insecure } => {
                Place::Registry { repository: Repository::new(host, path), insecure }
            }
            PlaceText::Layout(folder) => Place::Layout(folder),
            PlaceText::Remote(name) => Place::Remote(name.into()),
        };
        Layer {
            diff_id: self.diff_id,
            blob: self.blob,
            created: self.created,
            places: self.places.into_iter().map(place).collect(),
        }
    }
}
