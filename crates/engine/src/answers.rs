//! Answers, and what may follow them.

use std::pin::Pin;

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

use crate::ApiError;
use crate::body::Body;

/// Takes the rest of a connection's life, after its upgrade.
pub(crate) type HandOver = mpsc::UnboundedSender<Pin<Box<dyn Future<Output = ()> + Send>>>;

pub(crate) fn set(response: &mut Response<Body>, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// An answer that is JSON.
pub(crate) fn json_text(text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text + "\n"));
    set(&mut response, CONTENT_TYPE, "application/json");
    response
}

/// An answer that is JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<Response<Body>, ApiError> {
    serde_json::to_string(value)
        .map(json_text)
        .map_err(|error| ApiError::Server(format!("writing the answer: {error}")))
}

/// An answer without a body.
pub(crate) fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Whole(None));
    *response.status_mut() = status;
    response
}
