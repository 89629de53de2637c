//! Images that are written to archives and read from them, for `docker save` and `docker load` and for the
//! Engine API.

use build::images::{self, ImageError, LoadedImage, Saved};
use oci::Reference;
use store::Store;

use crate::args::NameFilter;

/// The images that texts name, each once.
///
/// # Errors
/// If an image is not here.
pub fn wanted<T: AsRef<str>>(store: &Store, texts: &[T]) -> Result<Vec<Saved>, ImageError> {
    let mut wanted: Vec<Saved> = Vec::new();
    for text in texts {
        for saved in find(store, text.as_ref())? {
            match wanted.iter_mut().find(|known| known.image.manifest == saved.image.manifest) {
                Some(known) => known.names.extend(saved.names),
                None => wanted.push(saved),
            }
        }
    }
    Ok(wanted)
}

/// The images that a text names: by a name or an ID, or all of a repository.
fn find(store: &Store, text: &str) -> Result<Vec<Saved>, ImageError> {
    if let Ok(filter) = text.parse::<NameFilter>()
        && !filter.has_tag()
    {
        let of_repository: Vec<Saved> = images::each(store)?
            .filter_map(|image| {
                let names: Vec<Reference> =
                    image.names.iter().filter(|name| filter.means(name)).cloned().collect();
                (!names.is_empty()).then_some(Saved { image, names })
            })
            .collect();
        if !of_repository.is_empty() {
            return Ok(of_repository);
        }
    }
    let found = images::look_up(store, text)?;
    Ok(vec![Saved { image: found.image, names: found.name.into_iter().collect() }])
}

/// The lines that docker prints of a loaded image.
pub fn loaded(image: &LoadedImage) -> String {
    if image.names.is_empty() {
        return format!("Loaded image ID: {}\n", image.id);
    }
    let names = image.names.iter();
    names.map(|name| format!("Loaded image: {}\n", name.familiar())).collect()
}
