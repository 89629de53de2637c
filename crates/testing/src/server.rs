//! A server with scripted answers and a record of requests, for cloud protocols out of reach of
//! tests, with answers as they were recorded or documented.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

/// A received request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `GET`, `PUT`, …
    pub method: String,
    /// Path and query, unchanged.
    pub target: String,
    /// Headers, by names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Bytes,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status code; 0 means 200.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// An answer with only a status.
    pub fn of(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// An answer with a body.
    pub fn text(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }
}

/// A server that runs on its own thread until it is dropped.
pub struct FakeServer {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FakeServer {
    /// Starts a server.
    ///
    /// # Panics
    /// If there is no free port.
    pub fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        listener.set_nonblocking(true).expect("a socket can be that");
        let addr = listener.local_addr().expect("it is bound");
        let (stop, stopped) = oneshot::channel();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (answer, seen) = (Arc::new(answer), asked.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime needs nothing").block_on(async move {
                tokio::select! {
                    () = serve(listener, seen, answer) => (),
                    _ = stopped => (),
                }
            });
        });
        Self { addr, asked, stop: Some(stop), thread: Some(thread) }
    }

    /// A server of objects that are stored by PUT. It implements the common part of Azure Blob
    /// Storage and the XML interfaces of Google Cloud Storage and S3, as far as small objects need
    /// it.
    pub fn of_objects() -> Self {
        let objects = Mutex::<BTreeMap<String, Bytes>>::default();
        Self::start(move |asked| {
            let path = asked.target.split('?').next().unwrap_or_default().to_owned();
            let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
            let headers = vec![
                ("etag".into(), "\"1\"".into()),
                ("last-modified".into(), "Tue, 24 Nov 2026 01:00:00 GMT".into()),
            ];
            match (asked.method.as_str(), objects.get(&path)) {
                ("PUT", _) => {
                    objects.insert(path, asked.body.clone());
                    Answer { status: 201, headers, ..Answer::default() }
                }
                ("GET" | "HEAD", Some(body)) => {
                    Answer { headers, body: body.clone(), ..Answer::default() }
                }
                ("GET" | "HEAD", None) => Answer {
                    status: 404,
                    headers: vec![("x-ms-error-code".into(), "BlobNotFound".into())],
                    ..Answer::default()
                },
                _ => Answer::of(405),
            }
        })
    }

    /// Its URL: `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The requests so far, oldest first.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Methods and targets of the requests so far: `GET /a?b`.
    pub fn lines(&self) -> Vec<String> {
        self.asked().iter().map(|asked| format!("{} {}", asked.method, asked.target)).collect()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed there.
            let _ = thread.join();
        }
    }
}

type Answers = Arc<dyn Fn(&Asked) -> Answer + Send + Sync>;

async fn serve(listener: TcpListener, seen: Arc<Mutex<Vec<Asked>>>, answer: Answers) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("there is a runtime");
    while let Ok((stream, _)) = listener.accept().await {
        let (seen, answer) = (seen.clone(), answer.clone());
        let service = service_fn(move |request| {
            let (seen, answer) = (seen.clone(), answer.clone());
            async move { Ok::<_, Infallible>(respond(request, &seen, &answer).await) }
        });
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new();
            // Errors of the client's connection are of no interest.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    seen: &Mutex<Vec<Asked>>,
    answer: &Answers,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let asked = Asked {
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        headers: parts.headers.iter().map(header).collect(),
        body: body.collect().await.map(|body| body.to_bytes()).unwrap_or_default(),
    };
    let said = answer(&asked);
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    let mut response = Response::builder().status(if said.status == 0 { 200 } else { said.status });
    for (name, value) in said.headers {
        response = response.header(name, value);
    }
    response.body(Full::new(said.body)).expect("a test gives headers that are some")
}
