//! BuildKit's messages, as far as they are served.
//!
//! Each file is a `.proto` package of BuildKit, containerd or OpenTelemetry. Names and numbers of
//! fields are theirs; fields that nothing here reads are left out, and are skipped when they come.
#![expect(missing_docs, reason = "names and meanings are those of BuildKit's .proto files")]

pub mod content;
pub mod control;
pub mod fsutil;
pub mod gateway;
pub mod pb;
pub mod session;

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

/// `map<string, string>`.
pub type StringMap = HashMap<String, String>;

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Timestamp {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl From<SystemTime> for Timestamp {
    fn from(at: SystemTime) -> Self {
        // A time before 1970 is that of a clock that was never set.
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: since.subsec_nanos().cast_signed(),
        }
    }
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: bytes::Bytes,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// A message without fields, of any package.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Empty {}

/// `BytesMessage` of `moby.buildkit.v1`, `moby.filesync.v1`, `moby.upload.v1` and
/// `moby.sshforward.v1`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BytesMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub data: bytes::Bytes,
}
