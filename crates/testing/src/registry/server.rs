//! The server's connections.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::{Body as HttpBody, Frame, Incoming as Incoming_, SizeHint};
use hyper::header::CONTENT_LENGTH;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::requests::{Incoming, Reply, answer, failure, lie};
use super::{FakeRegistry, Fault, Seen, Shared, TlsFiles};

pub(super) type Body = BoxBody<Bytes, io::Error>;

pub(super) fn start(tls: Option<&TlsFiles>) -> FakeRegistry {
    let acceptor = tls.map(acceptor);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let addr = listener.local_addr().expect("a bound socket has an address");
    listener.set_nonblocking(true).expect("a socket can be made non-blocking");
    let (stop, stopped) = oneshot::channel();
    let shared = Shared::default();
    let served = shared.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be made");
        // Dropping the runtime closes all connections.
        runtime.block_on(async {
            tokio::select! {
                () = accept(listener, acceptor, served) => {}
                _ = stopped => {}
            }
        });
    });
    FakeRegistry { addr, shared, stop: Some(stop), thread: Some(thread) }
}

fn acceptor(files: &TlsFiles) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let read = |path: &Path| -> Vec<CertificateDer<'static>> {
        let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        certificates.expect("the file has PEM certificates")
    };
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS");
    let builder = match &files.client_ca {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(read(ca));
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().expect("the authority is usable"))
        }
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).expect("the file has a PEM key");
    let config = builder.with_single_cert(read(&files.certificate), key);
    TlsAcceptor::from(Arc::new(config.expect("the key is the certificate's")))
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Shared) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("the socket is non-blocking");
    while let Ok((stream, _)) = listener.accept().await {
        let (shared, acceptor) = (shared.clone(), acceptor.clone());
        tokio::spawn(async move {
            match acceptor {
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, "https", shared).await;
                    }
                }
                None => serve(stream, "http", shared).await,
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, scheme: &'static str, shared: Shared) {
    let service = service_fn(|request| handle(request, scheme, shared.clone()));
    // Broken connections are intended by tests.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Handles a request. An error ends the connection without a response.
async fn handle(
    request: Request<Incoming_>,
    scheme: &str,
    shared: Shared,
) -> Result<Reply, io::Error> {
    let (parts, mut body) = request.into_parts();
    let header = |name: &str| {
        let value = parts.headers.get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let mut incoming = Incoming {
        method: parts.method.to_string(),
        path: parts.uri.path().into(),
        query: parts.uri.query().unwrap_or_default().into(),
        authorization: header("authorization"),
        range: header("range"),
        content_range: header("content-range"),
        content_type: header("content-type"),
        content_length: header("content-length").and_then(|length| length.parse().ok()),
        body: Bytes::new(),
        broken: false,
    };
    let base = format!("{scheme}://{}", header("host").unwrap_or_default());
    let query = if incoming.query.is_empty() { "" } else { "?" };
    shared.lock().seen.push(Seen {
        line: format!("{} {}{query}{}", incoming.method, incoming.path, incoming.query),
        authorization: incoming.authorization.clone(),
        range: incoming.range.clone(),
    });
    let cut = match incoming.is_upload_of_bytes() {
        true => shared.lock().faults.cut_uploads.pop_front(),
        false => None,
    };
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(io::Error::other)?;
        bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
        if let Some(cut) = cut.filter(|cut| bytes.len() >= *cut) {
            bytes.truncate(cut);
            incoming.broken = true;
            break;
        }
    }
    incoming.body = bytes.into();
    let fault = fault_of(&mut shared.lock().faults.at);
    let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
    match &fault {
        Some(Fault::Status(status, headers)) => return Ok(failure(*status, headers)),
        Some(Fault::Reset) => return Err(reset()),
        _ => {}
    }
    let reply = answer(&mut shared.lock(), &incoming, &base).ok_or_else(reset)?;
    match fault {
        Some(fault) => spoil(reply, fault).await.ok_or_else(reset),
        None => Ok(reply),
    }
}

/// The fault of this request, if it is the chosen one.
fn fault_of(at: &mut Option<(usize, Fault)>) -> Option<Fault> {
    match at {
        Some((0, _)) => at.take().map(|(_, fault)| fault),
        Some((count, _)) => {
            *count -= 1;
            None
        }
        None => None,
    }
}

/// Applies a fault to a response; none if there is to be no response.
async fn spoil(reply: Reply, fault: Fault) -> Option<Reply> {
    let (mut parts, body) = reply.into_parts();
    let bytes = body.collect().await.ok()?.to_bytes();
    let half = bytes.len() / 2;
    let body = match fault {
        Fault::Cut if !bytes.is_empty() => broken(bytes, half),
        Fault::Short if !bytes.is_empty() => {
            parts.headers.remove(CONTENT_LENGTH);
            whole(bytes.slice(..half))
        }
        // A response without a body cannot be garbled.
        Fault::Short | Fault::Garbled => whole(lie(&bytes)),
        _ => return None,
    };
    Some(hyper::Response::from_parts(parts, body))
}

/// A complete body.
pub(super) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed()
}

/// A body that breaks before its end.
pub(super) fn broken(bytes: Bytes, cut: usize) -> Body {
    let size = bytes.len() as u64;
    Broken { rest: Some(bytes.slice(..cut.min(bytes.len()))), size }.boxed()
}

struct Broken {
    rest: Option<Bytes>,
    size: u64,
}

impl HttpBody for Broken {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.rest.take() {
            Some(bytes) if bytes.is_empty() => {
                // Pending once, so that the sent bytes are flushed before the connection ends.
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(bytes) => {
                self.rest = Some(Bytes::new());
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            None => Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into()))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size)
    }
}
