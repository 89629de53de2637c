//! For fuzzing: a request as far as it is read without a connection.

use hyper::HeaderMap;
use serde_json::Value;

use crate::container_filters::ContainerFilters;
use crate::query::Query;
use crate::streams::DetachKeys;
use crate::{auth, bodies, handlers, route};

/// Reads a request: `METHOD PATH?QUERY` in the first line, credentials in the second, and a body in the others.
pub fn request(text: &str) {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (second, body) = rest.split_once('\n').unwrap_or((rest, ""));
    read_body(body);
    let (method, target) = first.split_once(' ').unwrap_or(("GET", first));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HeaderMap::new();
    if let Ok(value) = second.parse::<hyper::header::HeaderValue>() {
        headers.insert("x-registry-auth", value.clone());
        headers.insert("x-registry-config", value);
    }
    drop(auth::registry_auth(&headers));
    let (Ok(route), Ok(query)) = (route::route(method, path), Query::parse(query)) else { return };
    if let Ok(filters) = query.filters() {
        drop(ContainerFilters::read(&filters, &[]));
    }
    if let Some(Ok(mut keys)) = query.get("detachKeys").map(DetachKeys::parse) {
        keys.search(text.as_bytes());
    }
    if let Ok(notes) = route.endpoint.judge(&query) {
        drop(handlers::build::parameters(&query, &headers, notes));
    }
}

fn read_body(body: &str) {
    let Ok(body) = serde_json::from_str::<Value>(body) else { return };
    drop(bodies::read_exec_start(body.clone()));
    drop(bodies::read_exec(body.clone()));
    if let Ok((spec, _)) = bodies::read_create(body) {
        // A container's properties are kept in this form.
        let text = serde_json::to_string(&spec).expect("its names are texts");
        assert_eq!(serde_json::from_str::<crate::ContainerSpec>(&text).ok(), Some(spec));
    }
}
