//! Requests of the wire as typed solves, and failures as gRPC's errors.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost::Message as _;
use tonic::{Code, Status};

use crate::builder::{SolveError, TypedAttributes};
use crate::proto::control;
use crate::proto::{Any, RpcStatus, StringMap};

/// Attributes in order.
pub(crate) fn sorted(attributes: &StringMap) -> BTreeMap<String, String> {
    attributes.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// A list of types with attributes.
pub(crate) fn typed(list: &[control::TypedAttributes]) -> Vec<TypedAttributes> {
    let typed = list.iter().map(|entry| TypedAttributes {
        kind: entry.r#type.clone(),
        attributes: sorted(&entry.attrs),
    });
    typed.collect()
}

/// Moves what old clients say in other fields to today's (BuildKit's
/// `translateLegacySolveRequest`).
pub(crate) fn modernize(request: &mut control::SolveRequest) {
    let cache = request.cache.get_or_insert_default();
    let registry = |reference: String, mut attrs: StringMap| {
        attrs.insert("ref".into(), reference);
        control::TypedAttributes { r#type: "registry".into(), attrs }
    };
    if !cache.export_ref_deprecated.is_empty() {
        let reference = std::mem::take(&mut cache.export_ref_deprecated);
        let attributes = std::mem::take(&mut cache.export_attrs_deprecated);
        cache.exports.push(registry(reference, attributes));
    }
    for reference in std::mem::take(&mut cache.import_refs_deprecated) {
        cache.imports.push(registry(reference, HashMap::new()));
    }
    let kind = std::mem::take(&mut request.exporter_deprecated);
    let attrs = std::mem::take(&mut request.exporter_attrs_deprecated);
    if request.exporters.is_empty() && !kind.is_empty() {
        request.exporters.push(control::TypedAttributes { r#type: kind, attrs });
    }
}

/// Refuses what a solve cannot ask of kiln.
pub(crate) fn refuse_unknown(request: &control::SolveRequest) -> Result<(), Status> {
    let refused = |message: &str| Err(Status::unimplemented(message.to_owned()));
    if request.source_policy.as_ref().is_some_and(|policy| !policy.rules.is_empty()) {
        return refused("source policies are not read: pin images by digest in FROM");
    }
    if request.proxy_network {
        return refused(
            "`--proxy-network`: a RUN has the network of this machine, or none \
             (`force-network-mode=none`)",
        );
    }
    Ok(())
}

impl From<SolveError> for Status {
    fn from(error: SolveError) -> Self {
        let code = if error.is_request { Code::InvalidArgument } else { Code::Unknown };
        let details = error.lines.as_ref().map(|source| {
            let position = |line: u32| serde_json::json!({ "line": line });
            let value = serde_json::json!({
                "info": {
                    "filename": source.filename,
                    "data": BASE64_STANDARD.encode(source.text.as_bytes()),
                },
                "ranges": [{
                    "start": position(source.lines.0), "end": position(source.lines.1),
                }],
            });
            Any {
                type_url: "github.com/moby/buildkit/errdefs.Source+json".into(),
                value: value.to_string().into(),
            }
        });
        let status = RpcStatus {
            code: code.into(),
            message: error.message.clone(),
            details: details.into_iter().collect(),
        };
        Status::with_details(code, error.message, status.encode_to_vec().into())
    }
}

/// A failure as a record has it.
pub(crate) fn rpc_status(status: &Status) -> RpcStatus {
    RpcStatus::decode(status.details()).ok().filter(|own| own.code != 0).unwrap_or_else(|| {
        RpcStatus {
            code: status.code().into(),
            message: status.message().to_owned(),
            details: Vec::new(),
        }
    })
}

/// The build that ended because its client did.
pub(crate) fn canceled() -> Status {
    Status::cancelled("context canceled")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::ErrorSource;

    #[test]
    fn old_fields_become_new_ones() {
        let mut request = control::SolveRequest {
            exporter_deprecated: "image".into(),
            exporter_attrs_deprecated: [("name".to_owned(), "a".to_owned())].into(),
            cache: Some(control::CacheOptions {
                export_ref_deprecated: "r/a".into(),
                import_refs_deprecated: vec!["r/b".into()],
                ..Default::default()
            }),
            ..Default::default()
        };
        modernize(&mut request);
        let cache = request.cache.unwrap();
        assert_eq!(typed(&request.exporters)[0].attributes["name"], "a");
        assert_eq!(typed(&cache.exports)[0].attributes["ref"], "r/a");
        assert_eq!(typed(&cache.imports)[0].kind, "registry");
    }

    #[test]
    fn an_error_shows_its_lines() {
        let source =
            ErrorSource { filename: "Dockerfile".into(), text: "FROM x\n".into(), lines: (1, 1) };
        let error = SolveError { lines: Some(source), ..SolveError::new("no") };
        let status = Status::from(error);
        let own = rpc_status(&status);
        assert_eq!((own.code, own.message.as_str()), (2, "no"));
        let value: serde_json::Value = serde_json::from_slice(&own.details[0].value).unwrap();
        assert_eq!(value["ranges"][0]["start"]["line"], 1);
        assert_eq!(value["info"]["data"], BASE64_STANDARD.encode("FROM x\n"));
    }
}
