//! Names of images: finding, giving and taking them.

use std::collections::{BTreeMap, BTreeSet};

use oci::{Digest, Reference};
use store::Store;

use super::ImageError;
use crate::image_store::{self, Kept};

/// An image as it was asked for.
#[derive(Clone, Debug)]
pub struct FoundImage {
    /// The image, with all of its names.
    pub image: Kept,
    /// The name, where it was not asked for by its ID.
    pub name: Option<Reference>,
}

/// Names and images that were removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// IDs of images whose last name went.
    pub deleted: Vec<Digest>,
}

/// The image that a text means: a name, an ID, or the beginning of an ID that is no other's.
///
/// # Errors
/// [`ImageError::NotHere`], [`ImageError::Ambiguous`].
pub fn look_up(store: &Store, text: &str) -> Result<FoundImage, ImageError> {
    let reference: Option<Reference> = text.parse().ok();
    if let Some(wanted) = &reference
        && let Some((image, name)) =
            image_store::by_name(store, |manifest, name| means(wanted, manifest, name))?
    {
        return Ok(FoundImage { image, name: Some(name) });
    }
    let not_here = || {
        let name = reference.as_ref().map_or_else(|| text.to_owned(), Reference::familiar);
        ImageError::NotHere(name)
    };
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if hex.is_empty() || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(not_here());
    }
    let means =
        |image: &Kept| image.id.hex().starts_with(hex) || image.manifest.digest.hex() == hex;
    let mut found: Option<Kept> = None;
    let mut ids = BTreeSet::new();
    for image in image_store::each(store)?.filter(means) {
        ids.insert(image.id);
        // The first has names, if any has.
        found.get_or_insert(image);
    }
    match (found, ids.len()) {
        (Some(image), 1) => Ok(FoundImage { image, name: None }),
        (None, _) => Err(not_here()),
        _ => {
            let some: Vec<String> = ids.iter().take(4).map(short).collect();
            Err(ImageError::Ambiguous { id: text.into(), matches: some.join(", ") })
        }
    }
}

/// True if a name, or the form that `inspect` shows of it, is meant: the repository, and the digest of the manifest.
fn means(wanted: &Reference, manifest: &Digest, name: &Reference) -> bool {
    name == wanted
        || (wanted.digest() == Some(*manifest) && name.repository() == wanted.repository())
}

fn short(id: &Digest) -> String {
    id.hex()[..12].to_owned()
}

/// Gives an image another name, which another image loses if it has it.
///
/// # Errors
/// The errors of [`look_up`], and one if the name has a digest.
pub fn tag(store: &Store, source: &str, name: &Reference) -> Result<(), ImageError> {
    if name.digest().is_some() {
        return Err(ImageError::TagWithDigest(name.clone()));
    }
    let found = look_up(store, source)?;
    Ok(store.db().put_image(&name.to_string(), &found.image.manifest.digest)?)
}

/// Takes a name from an image, or, by its ID, all names; the image goes with the last one. With
/// `force` an ID may have names in several repositories.
///
/// # Errors
/// The errors of [`look_up`], and [`ImageError::SeveralNames`].
pub fn remove(store: &Store, text: &str, force: bool) -> Result<Removed, ImageError> {
    let found = look_up(store, text)?;
    let id = found.image.id;
    // The same config can be in several manifests: layers that are compressed otherwise.
    let same: Vec<Kept> = image_store::each(store)?.filter(|image| image.id == id).collect();
    let names: Vec<Reference> = same.iter().flat_map(|image| image.names.clone()).collect();
    let repositories: BTreeSet<_> = names.iter().map(Reference::repository).collect();
    let untagged = match found.name {
        Some(name) => vec![name],
        None if repositories.len() > 1 && !force => {
            let names: Vec<String> = names.iter().map(Reference::familiar).collect();
            return Err(ImageError::SeveralNames { id, names: names.join(", ") });
        }
        None => names.clone(),
    };
    take_names(store, &untagged)?;
    for image in &same {
        if image.names.iter().all(|name| untagged.contains(name)) {
            image_store::forget(store, &image.manifest.digest)?;
        }
    }
    let is_deleted = names.len() == untagged.len();
    Ok(Removed { untagged, deleted: is_deleted.then_some(id).into_iter().collect() })
}

/// Removes images by their IDs, with all of their names. Those that are gone already are left out.
///
/// # Errors
/// If the store cannot be read or changed.
pub fn remove_all(store: &Store, ids: &BTreeSet<Digest>) -> Result<Vec<Removed>, ImageError> {
    let mut going: BTreeMap<Digest, Vec<Reference>> = BTreeMap::new();
    for image in image_store::each(store)?.filter(|image| ids.contains(&image.id)) {
        take_names(store, &image.names)?;
        image_store::forget(store, &image.manifest.digest)?;
        going.entry(image.id).or_default().extend(image.names);
    }
    let removed = |(id, untagged)| Removed { untagged, deleted: vec![id] };
    Ok(going.into_iter().map(removed).collect())
}

fn take_names(store: &Store, names: &[Reference]) -> Result<(), ImageError> {
    for name in names {
        store.db().remove_image(&name.to_string())?;
    }
    Ok(())
}
