//! gRPC in both directions: methods of this service, and calls of a client's services.
//!
//! tonic has the frames and the codec; connections are hyper's.

use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use prost::Message;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// The largest message that is taken or sent (BuildKit's limit).
pub(crate) const LARGEST_MESSAGE: usize = 16 << 20;

/// A request to this service, before its message is read.
pub(crate) type HttpRequest = http::Request<Incoming>;
/// A response of this service.
pub(crate) type HttpResponse = http::Response<Body>;
/// The messages that a method sends.
pub(crate) type Messages<M> = futures_util::stream::BoxStream<'static, Result<M, Status>>;

/// A method as tonic's server wants it.
struct Method<F, A>(F, PhantomData<fn(A)>);

impl<F, A, B, Fut> Service<Request<A>> for Method<F, A>
where
    F: FnMut(Request<A>) -> Fut,
    Fut: Future<Output = Result<B, Status>> + Send + 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<B>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let answer = (self.0)(request);
        Box::pin(async { answer.await.map(Response::new) })
    }
}

fn server<A, B>() -> tonic::server::Grpc<ProstCodec<B, A>>
where
    A: Message + Default + 'static,
    B: Message + 'static,
{
    tonic::server::Grpc::new(ProstCodec::default())
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE)
}

/// Serves a method with one message each way.
pub(crate) async fn unary<A, B, Fut>(
    request: HttpRequest,
    method: impl FnMut(Request<A>) -> Fut + Send,
) -> HttpResponse
where
    A: Message + Default + 'static,
    B: Message + 'static,
    Fut: Future<Output = Result<B, Status>> + Send + 'static,
{
    server().unary(Method(method, PhantomData), request).await
}

/// Serves a method that answers with several messages.
pub(crate) async fn server_streaming<A, B, Fut>(
    request: HttpRequest,
    method: impl FnMut(Request<A>) -> Fut + Send,
) -> HttpResponse
where
    A: Message + Default + 'static,
    B: Message + 'static,
    Fut: Future<Output = Result<Messages<B>, Status>> + Send + 'static,
{
    server().server_streaming(Method(method, PhantomData), request).await
}

/// Serves a method with several messages each way.
pub(crate) async fn streaming<A, B, Fut>(
    request: HttpRequest,
    method: impl FnMut(Request<Streaming<A>>) -> Fut + Send,
) -> HttpResponse
where
    A: Message + Default + 'static,
    B: Message + 'static,
    Fut: Future<Output = Result<Messages<B>, Status>> + Send + 'static,
{
    server().streaming(Method(method, PhantomData), request).await
}

/// A stream of what a channel receives.
pub(crate) fn received<T>(mut receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> {
    futures_util::stream::poll_fn(move |context| receiver.poll_recv(context))
}

/// A connection to a client's services.
#[derive(Clone)]
pub(crate) struct Channel(SendRequest<Body>);

impl Channel {
    pub(crate) fn new(send: SendRequest<Body>) -> Self {
        Self(send)
    }

    /// True if nothing can be called any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Waits until a call can be made.
    async fn ready_client(&self) -> Result<tonic::client::Grpc<Self>, Status> {
        let origin = http::Uri::from_static("http://localhost");
        let mut client = tonic::client::Grpc::with_origin(self.clone(), origin)
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        client.ready().await.map_err(gone)?;
        Ok(client)
    }

    /// Calls a method with one message each way.
    pub(crate) async fn unary<A, B>(
        &self,
        path: &'static str,
        request: Request<A>,
    ) -> Result<B, Status>
    where
        A: Message + 'static,
        B: Message + Default + 'static,
    {
        let mut client = self.ready_client().await?;
        let path = http::uri::PathAndQuery::from_static(path);
        client.unary(request, path, ProstCodec::default()).await.map(Response::into_inner)
    }

    /// Calls a method with several messages each way.
    pub(crate) async fn streaming<A, B>(
        &self,
        path: &'static str,
        request: Request<impl Stream<Item = A> + Send + 'static>,
    ) -> Result<Streaming<B>, Status>
    where
        A: Message + 'static,
        B: Message + Default + 'static,
    {
        let mut client = self.ready_client().await?;
        let path = http::uri::PathAndQuery::from_static(path);
        client.streaming(request, path, ProstCodec::default()).await.map(Response::into_inner)
    }
}

fn gone(error: hyper::Error) -> Status {
    Status::unavailable(format!("the client's session has ended: {error}"))
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// An answer that a method of no service gives.
pub(crate) fn unimplemented(path: &str) -> HttpResponse {
    let method = path.trim_start_matches('/');
    Status::unimplemented(format!("kiln does not serve the method `{method}`")).into_http()
}

/// An answer as hyper's server wants it.
pub(crate) type Served = Result<HttpResponse, Infallible>;
