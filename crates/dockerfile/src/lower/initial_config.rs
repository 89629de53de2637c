//! The config that an image begins with.

use oci::{Config, ImageConfig, Platform, RootFs};
use serde_json::Map;

use super::DEFAULT_PATH;

/// The config of nothing.
pub(super) fn empty_image(platform: &Platform) -> ImageConfig {
    let mut image = ImageConfig {
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        os: platform.os.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
        ..ImageConfig::default()
    };
    image.config.working_dir = "/".into();
    if platform.os != "windows" {
        image.config.env = vec![format!("PATH={DEFAULT_PATH}")];
    }
    image
}

/// The initial config of an image built on one with `config`. Like BuildKit's, it has only the
/// fields of the specifications, and layers are filled in when they are known.
pub(super) fn inherited(config: ImageConfig) -> ImageConfig {
    ImageConfig {
        created: None,
        rootfs: RootFs::default(),
        other: Map::new(),
        config: Config { other: Map::new(), ..config.config },
        ..config
    }
}
