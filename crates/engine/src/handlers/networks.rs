//! Networks: the machine's under two names, and none.

use hyper::Response;
use serde_json::Value;

use super::EndpointCall;
use crate::body::Body;
use crate::container_filters::unknown;
use crate::container_json::{NETWORKS, NetworkKind, network_object};
use crate::{ApiError, EngineServer, Filters, Sizes, answers};

pub(super) fn list(call: &EndpointCall) -> Result<Response<Body>, ApiError> {
    let filters = call.query.filters()?;
    check(&filters)?;
    let wanted = NETWORKS.into_iter().filter(|network| fits(*network, &filters));
    let networks: Vec<Value> = wanted.map(|network| network_object(network, &[])).collect();
    answers::json(&networks)
}

pub(super) async fn inspect(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let network = NetworkKind::find(&call.name)
        .ok_or_else(|| ApiError::NotFound(format!("network {} not found", call.name)))?;
    let containers = engine.all_containers(Sizes::Left).await?;
    answers::json(&network_object(network, &containers))
}

fn check(filters: &Filters) -> Result<(), ApiError> {
    const KNOWN: [&str; 7] = ["name", "id", "driver", "scope", "type", "label", "dangling"];
    let other = filters.0.iter().find(|(name, _)| !KNOWN.contains(&name.as_str()));
    other.map_or(Ok(()), |(name, _)| Err(unknown(name)))
}

fn fits(network: NetworkKind, filters: &Filters) -> bool {
    let any = |name: &str, fits: &dyn Fn(&str) -> bool| {
        let mut values = filters.all(name).peekable();
        values.peek().is_none() || values.any(fits)
    };
    any("name", &|name| network.name().contains(name))
        && any("id", &|id| network.id().starts_with(id))
        && any("driver", &|driver| driver == network.driver())
        && any("scope", &|scope| scope == "local")
        && any("type", &|kind| kind == "builtin")
        // None has a label, and none is without use.
        && any("label", &|_| false)
        && any("dangling", &|value| matches!(value, "false" | "0"))
}
