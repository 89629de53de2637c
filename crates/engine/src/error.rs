//! Errors of the API, each with its status.

use hyper::StatusCode;
use serde_json::json;

/// A request that failed. The text is shown to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// Something in the request is wrong.
    #[error("{0}")]
    BadRequest(String),
    /// The registry does not accept the credentials.
    #[error("{0}")]
    Unauthorized(String),
    /// There is no such object.
    #[error("{0}")]
    NotFound(String),
    /// The object's state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The request is larger than it may be.
    #[error("{0}")]
    TooLarge(String),
    /// kiln does not do that.
    #[error("{0}")]
    NotImplemented(String),
    /// Something failed here.
    #[error("{0}")]
    Server(String),
    /// Nothing can be done now.
    #[error("{0}")]
    Unavailable(String),
}

impl ApiError {
    /// Its HTTP status, as dockerd answers.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Server(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The body of its answer.
    pub(crate) fn body(&self) -> String {
        json!({ "message": self.to_string() }).to_string()
    }
}
