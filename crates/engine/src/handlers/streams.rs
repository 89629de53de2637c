//! Answers that grow while work is done.

use std::future::Future;
use std::future::poll_fn;
use std::io;

use hyper::Response;
use hyper::header::CONTENT_TYPE;

use crate::answers::set;
use crate::body::{AbortOnDrop, ArchiveWriter, Body};
use crate::progress::{Item, ProgressSender};
use crate::{ApiError, EngineServer};

/// Runs work that sends progress. Work that fails before its first message is an answer with the error's
/// status, as with dockerd.
pub(super) async fn progress<F>(
    work: impl FnOnce(ProgressSender) -> F,
) -> Result<Response<Body>, ApiError>
where
    F: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let (progress, mut lines) = ProgressSender::channel();
    let running = work(progress.clone());
    let task = tokio::spawn(async move {
        let result = running.await;
        progress.end(result);
    });
    let work = AbortOnDrop(task.abort_handle());
    let first = match poll_fn(|context| lines.poll(context)).await {
        Some(Item::Line(first)) => first,
        Some(Item::End(result)) => {
            result?;
            return Ok(answer(Body::Whole(None)));
        }
        None => return Err(ApiError::Server("canceled".into())),
    };
    Ok(answer(Body::Progress { first: Some(first), lines, _work: work }))
}

fn answer(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    set(&mut response, CONTENT_TYPE, "application/json");
    response
}

/// Runs work that writes an archive.
pub(super) async fn archive<F>(
    work: impl FnOnce(ArchiveWriter) -> F,
) -> Result<Response<Body>, ApiError>
where
    F: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let (writer, mut pieces) = ArchiveWriter::channel();
    let sender = writer.sender();
    let running = work(writer);
    let (failed, failure) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        if let Err(error) = running.await {
            // A body that has begun can only break off.
            let broken = io::Error::other(error.to_string());
            let _ = failed.send(error);
            let _ = sender.send(Err(broken)).await;
        }
    });
    let work = AbortOnDrop(task.abort_handle());
    let first = match pieces.recv().await {
        Some(Ok(first)) => Some(first),
        Some(Err(error)) => {
            return Err(failure.await.unwrap_or_else(|_| ApiError::Server(error.to_string())));
        }
        None => None,
    };
    let mut response = Response::new(Body::Archive { first, pieces, _work: work });
    set(&mut response, CONTENT_TYPE, "application/x-tar");
    Ok(response)
}

/// Forgets a build's ID when it ends, in whatever way.
pub(super) struct Registered {
    pub(super) engine: std::sync::Arc<EngineServer>,
    pub(super) id: String,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.engine.builds().remove(&self.id);
    }
}
