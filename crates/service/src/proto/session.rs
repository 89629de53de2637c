//! The services of a session: packages `moby.filesync.v1`, `moby.buildkit.secrets.v1`,
//! `moby.sshforward.v1`, `moby.buildkit.v1.sourcepolicy.policysession`, and gRPC's health check.

use super::gateway::ResolveSourceMetaResponse;
use super::pb::Platform;
use super::{Empty, StringMap};

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CredentialsRequest {
    #[prost(string, tag = "1")]
    pub host: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckPolicyRequest {
    #[prost(message, optional, tag = "1")]
    pub platform: Option<Platform>,
    #[prost(message, optional, tag = "2")]
    pub source: Option<ResolveSourceMetaResponse>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckPolicyResponse {
    #[prost(message, optional, tag = "1")]
    pub decision: Option<DecisionResponse>,
    #[prost(message, optional, tag = "2")]
    pub request: Option<Empty>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DecisionResponse {
    /// 0 allows, 1 denies, 2 converts.
    #[prost(int32, tag = "1")]
    pub action: i32,
    #[prost(message, repeated, tag = "2")]
    pub deny_messages: Vec<DenyMessage>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DenyMessage {
    #[prost(string, tag = "1")]
    pub message: String,
}

/// A login; its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct CredentialsResponse {
    #[prost(string, tag = "1")]
    pub username: String,
    #[prost(string, tag = "2")]
    pub secret: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GetSecretRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(map = "string, string", tag = "2")]
    pub annotations: StringMap,
}

/// A secret; its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct GetSecretResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub data: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CheckAgentRequest {
    #[prost(string, tag = "1")]
    pub id: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub service: String,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct HealthCheckResponse {
    /// 1 is serving.
    #[prost(int32, tag = "1")]
    pub status: i32,
}

impl std::fmt::Debug for CredentialsResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CredentialsResponse(…)")
    }
}

impl std::fmt::Debug for GetSecretResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GetSecretResponse(…)")
    }
}
