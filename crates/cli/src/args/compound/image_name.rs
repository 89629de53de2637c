//! The names that an image is given.

use oci::Reference;

use super::OptionError;

/// The error of a tag where an image is pushed by its digest.
pub fn tag_by_digest(name: &str) -> OptionError {
    OptionError::Unusable(format!("`push-by-digest` pushes no tag, but `{name}` has one").into())
}

/// Names of an image, separated by commas.
///
/// # Errors
/// If one is no reference, or has a digest.
pub(super) fn names(text: &str) -> Result<Vec<Reference>, OptionError> {
    if text.trim() == "*" {
        return Err(OptionError::NotSupported {
            option: "name=*".into(),
            hint: "; write the name",
        });
    }
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(tag).collect()
}

/// A name that an image can be given: a reference without a digest.
///
/// # Errors
/// If it is not a reference, or has a digest.
pub fn tag(text: &str) -> Result<Reference, OptionError> {
    let reference: Reference = text.parse()?;
    match reference.digest() {
        Some(_) => Err(OptionError::refused(
            text,
            "it names an image by its digest, which a new image does not have yet",
        )),
        None => Ok(reference),
    }
}

/// True if a name has a tag.
pub fn has_tag(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|last| last.contains(':'))
}
