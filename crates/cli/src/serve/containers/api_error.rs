//! Errors about containers with the status that dockerd answers with.

use ::containers::Error;
use ::engine::ApiError;

pub(super) fn answer(error: Error) -> ApiError {
    let text = oci::chain_text(&error);
    match error {
        Error::NotFound(_) | Error::NoExec(_) | Error::NoPath { .. } => ApiError::NotFound(text),
        Error::Ambiguous(_)
        | Error::Name(_)
        | Error::NoCommand
        | Error::Setting(_)
        | Error::Bind(_)
        | Error::NoFolder(_)
        | Error::Overwrite(_)
        | Error::Archive(_)
        | Error::Tree(_)
        | Error::Runtime(_) => ApiError::BadRequest(text),
        Error::NameTaken { .. }
        | Error::TooMany(_)
        | Error::TooManyExecs(_)
        | Error::ExecStarted(_)
        | Error::Running { .. }
        | Error::NotRunning(_)
        | Error::Elsewhere(_) => ApiError::Conflict(text),
        Error::NoIsolation(_) => ApiError::NotImplemented(text),
        _ => ApiError::Server(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_dockerds() {
        let missing = answer(Error::NotFound("web".into()));
        assert_eq!(missing, ApiError::NotFound("No such container: web".into()));
        let program = runtime::Error::ProgramNotFound { program: "x".into() };
        let ApiError::BadRequest(text) = answer(program.into()) else { panic!("bad request") };
        // Clients make exit code 127 of these words.
        assert!(text.contains("executable file not found"), "{text}");
        let denied = runtime::Error::ProgramDenied { program: "x".into() };
        assert!(answer(denied.into()).to_string().contains("permission denied"));
        assert!(matches!(answer(Error::NoIsolation("no".into())), ApiError::NotImplemented(_)));
    }
}
