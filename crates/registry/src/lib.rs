//! The distribution protocol: manifests and blobs from and to registries.
//!
//! Receives [`Settings`] (credentials, hosts, proxies: everything, since nothing is read from the
//! environment), references and descriptors; hands over verified bytes and takes bytes to push.
//!
//! Invariant: bytes with a digest are checked before the last of them is handed over; credentials
//! go to the registry and its token service only, and with a redirect to no other origin; no more
//! than a manifest is held in memory. A request that goes wrong once (a status of the server's, a
//! broken connection, a body that is cut or wrong) is sent again.
//!
//! | quirk | of | what is done |
//! |---|---|---|
//! | HEAD of a manifest without digest, or refused | proxies, old Nexus | GET instead |
//! | `Location` relative, with a query, or `http:` behind TLS | Harbor, GitLab, Nexus | resolved, query and scheme kept |
//! | 202 for a mount; an error for it | ECR; GCR, Quay | that upload is used; asked again without |
//! | `Range: 0-0` for an empty upload | distribution | sent from the start |
//! | PUT of a whole blob refused (405, 413, 501) | proxies with body limits | PATCH in pieces |
//! | `Range` ignored | plain file servers | what is known already is skipped |
//! | token as `access_token`, without `expires_in` | Azure, Google | both read, 60 s |
//! | bodies without `Content-Length` refused (411) | GCR, proxies | always sent, 0 included |
//! | 307 for POST and PUT, or of the token service | gateways | followed |
//! | one 401 in the middle, for a password that was good | sessions that end | sent again, twice |

#![forbid(unsafe_code)]

mod auth;
mod blob_source;
mod blobs;
mod certificate;
mod challenge;
mod client;
mod credentials;
mod docker_config;
mod download;
mod endpoint;
mod error;
mod exchange;
#[cfg(any(fuzzing, debug_assertions))]
#[doc(hidden)]
pub mod fuzzing;
mod helper;
mod hosts;
mod http;
mod login;
mod manifests;
mod missing;
mod payload;
mod permission;
mod proxy;
mod push;
mod redirect;
mod response;
mod retry;
mod secret;
mod settings;
mod tls;
mod traffic;
mod transport;
mod upload;
mod upload_session;
mod web;

pub use blob_source::BlobSource;
pub use blobs::BlobStream;
pub use client::Client;
pub use credentials::Credentials;
pub use docker_config::{DockerConfig, LoginSource};
pub use error::{Error, Result};
pub use hosts::{ClientCertificate, HostConfig, HostsConfig};
pub use proxy::Proxies;
pub use push::{Expect, Pushed};
pub use retry::RetryPolicy;
pub use secret::Secret;
pub use settings::{Settings, Timeouts};
pub use tls::TrustRoots;
pub use traffic::Stats;
pub use web::{WebRequest, WebResponse};
