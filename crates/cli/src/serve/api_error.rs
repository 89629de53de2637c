//! Errors in the Engine API's terms: its statuses, and dockerd's words where scripts look for them.

use ::engine::ApiError;
use build::images::ImageError;
use oci::Reference;

use super::blocking::WorkError;
use crate::render::Report;

impl From<WorkError> for ApiError {
    fn from(error: WorkError) -> Self {
        failed(error)
    }
}

/// A message in the words of docker's clients, which keep the logins.
pub(super) fn for_client(text: &str) -> String {
    text.replace("`kiln login ", "`docker login ")
}

pub(super) fn failed(error: impl std::error::Error + 'static) -> ApiError {
    ApiError::Server(for_client(&oci::chain_text(&error)))
}

pub(super) fn bad(error: impl std::fmt::Display) -> ApiError {
    ApiError::BadRequest(error.to_string())
}

pub(super) fn refused(report: Report) -> ApiError {
    ApiError::BadRequest(report.message)
}

/// An error about an image, with the status that dockerd answers with.
pub(super) fn image_error(error: ImageError) -> ApiError {
    let text = for_client(&oci::chain_text(&error));
    let causes =
        std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let is_missing = |error: &registry::Error| error.is_not_found() || error.is_unauthorized();
    let mut of_registry = causes.filter_map(|cause| cause.downcast_ref::<registry::Error>());
    match &error {
        ImageError::NotHere(_) | ImageError::NothingToPush(_) => ApiError::NotFound(text),
        ImageError::Ambiguous { .. }
        | ImageError::TagWithDigest(_)
        | ImageError::Archive(_)
        | ImageError::Platform { .. } => ApiError::BadRequest(text),
        ImageError::SeveralNames { .. } => ApiError::Conflict(text),
        _ if of_registry.any(is_missing) => ApiError::NotFound(text),
        _ => ApiError::Server(text),
    }
}

/// The error of a registry that does not give an image, in dockerd's words, which scripts look for.
pub(super) fn pull_error(name: &Reference, error: &registry::Error) -> ApiError {
    let text = for_client(&oci::chain_text(error));
    if error.is_not_found() {
        let name = name.familiar();
        return ApiError::NotFound(format!(
            "manifest for {name} not found: manifest unknown: {text}"
        ));
    }
    if error.is_unauthorized() || matches!(error, registry::Error::Denied { .. }) {
        let repository = Reference::new(name.repository().clone(), None, None).familiar();
        return ApiError::NotFound(format!(
            "pull access denied for {repository}, repository does not exist or may require \
             'docker login': denied: {text}"
        ));
    }
    ApiError::Server(text)
}

pub(super) fn reference(text: &str) -> Result<Reference, ApiError> {
    text.parse().map_err(|error| ApiError::BadRequest(format!("invalid reference format: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_to_log_in_with_its_own_command() {
        let error = std::io::Error::other("no: log in with `kiln login r.example.com`");
        assert_eq!(failed(error).to_string(), "no: log in with `docker login r.example.com`");
    }
}
