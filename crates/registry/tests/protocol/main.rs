//! The client against a registry with wrong answers and faults.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod auth;
mod distribution;
mod helper;
mod hosts;
mod passing;
mod pull;
mod push;
mod redirects;
mod tls;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use oci::{Descriptor, Reference, Repository, media_type};
use registry::{Client, Error, RetryPolicy, Settings};
use testing::FakeRegistry;

/// Settings with short delays.
fn settings() -> Settings {
    let retry = RetryPolicy {
        attempts: 4,
        first_delay: Duration::from_millis(1),
        longest_delay: Duration::from_millis(2),
    };
    Settings { retry, ..Settings::default() }
}

fn client() -> Client {
    Client::new(settings()).unwrap()
}

fn repository(registry: &FakeRegistry, path: &str) -> Repository {
    Repository::new(registry.host(), path)
}

fn reference(registry: &FakeRegistry, name: &str) -> Reference {
    format!("{}/{name}", registry.host()).parse().unwrap()
}

/// Bytes that differ from each other.
fn some_bytes(size: usize) -> Bytes {
    (0..size).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn layer(bytes: &[u8]) -> Descriptor {
    Descriptor::of(media_type::OCI_LAYER, bytes)
}

/// Pulls on a separate task, as a build does, which also checks that the client's futures allow it.
async fn pull(client: &Client, from: &Repository, blob: &Descriptor) -> Result<Bytes, Error> {
    let (client, from, blob) = (client.clone(), from.clone(), blob.clone());
    let pulled = tokio::spawn(async move {
        let stream = client.blob(&from, &blob).await?;
        let all: Vec<Bytes> = stream.try_collect().await?;
        let whole = all.iter().fold(BytesMut::new(), |mut whole, bytes| {
            whole.extend_from_slice(bytes);
            whole
        });
        Ok(whole.freeze())
    });
    pulled.await.unwrap()
}
