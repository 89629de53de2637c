//! The client's settings.

use std::time::Duration;

use crate::{DockerConfig, HostsConfig, Proxies, RetryPolicy, TrustRoots};

/// Everything that a [`Client`](crate::Client) knows of the world.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The user's credentials for each registry.
    pub docker_config: DockerConfig,
    /// Mirrors, plain HTTP and certificates of hosts.
    pub hosts: HostsConfig,
    /// Proxies on the way out.
    pub proxies: Proxies,
    /// Whom to believe where a host has no certificates of its own.
    pub roots: TrustRoots,
    /// The `User-Agent` of each request.
    pub user_agent: String,
    /// The retry policy.
    pub retry: RetryPolicy,
    /// The timeouts.
    pub timeouts: Timeouts,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            docker_config: DockerConfig::default(),
            hosts: HostsConfig::default(),
            proxies: Proxies::default(),
            roots: TrustRoots::default(),
            user_agent: concat!("kiln/", env!("CARGO_PKG_VERSION")).into(),
            retry: RetryPolicy::default(),
            timeouts: Timeouts::default(),
        }
    }
}

/// Timeouts. They limit a stalled transfer, never a whole one.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// Until an answer begins, or the next bytes of one.
    pub idle: Duration,
    /// Until an answer of a host begins that said nothing the last time.
    pub idle_again: Duration,
    /// Until a registry says that it took what it was sent; it may copy gigabytes meanwhile.
    pub commit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            idle_again: Duration::from_secs(15),
            commit: Duration::from_secs(300),
        }
    }
}
