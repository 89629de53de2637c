//! Bases that are in folders of the OCI layout (`oci-layout://`).

use dockerfile::ImageRequest;
use execute::{BaseImage, ImageError, Images};
use oci::Reference;

use crate::Error;
use crate::request::OciLayout;

/// The reference of a layout's image in progress and in its step: the context's name, with the
/// image's digest.
///
/// # Errors
/// If the layout has no such image.
pub(crate) fn reference(name: &str, layout: &OciLayout) -> Result<Reference, Error> {
    let failed = |reason: String| {
        let folder = layout.folder.display();
        Error::Request(format!("`--build-context {name}=oci-layout://{folder}`: {reason}"))
    };
    let name = name.split_once("::").map_or(name, |(name, _)| name);
    let reference: Reference = name.parse().map_err(|error| failed(format!("{error}")))?;
    let digest = match layout.digest {
        Some(digest) => digest,
        None => execute::tagged_in_layout(&layout.folder, &layout.tag)
            .map_err(|error| failed(error.to_string()))?,
    };
    Ok(reference.with_digest(digest))
}

/// The image of a layout for a platform.
///
/// # Errors
/// If it is damaged or for other platforms.
pub(crate) async fn find(
    images: &Images,
    layout: &OciLayout,
    need: &ImageRequest,
) -> Result<BaseImage, ImageError> {
    images.resolve_in_layout(&layout.folder, &need.reference, &need.platform).await
}
