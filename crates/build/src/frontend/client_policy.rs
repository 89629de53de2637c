//! A client's policy on sources: each is asked about once, before a step runs.

use std::collections::BTreeMap;

use execute::{ClientError, PolicySource};
use graph::{Graph, Operation, Step};

use crate::Error;
use crate::request::Request;

/// Asks the client about the images, downloads and repositories of a build.
///
/// # Errors
/// If one of them may not be used.
pub(crate) async fn check(request: &Request, graph: &Graph) -> Result<(), Error> {
    let Some(policy) = &request.client_policy else { return Ok(()) };
    let mut asked: Vec<PolicySource> = Vec::new();
    for source in graph.steps().filter_map(|(_, step)| source(step)) {
        if !asked.contains(&source) {
            let refused = |error: ClientError| Error::Request(error.to_string());
            policy.0.check(&source).await.map_err(refused)?;
            asked.push(source);
        }
    }
    Ok(())
}

/// The source of a step in the terms of LLB (BuildKit's `source/*/identifier.go`).
fn source(step: &Step) -> Option<PolicySource> {
    let mut attributes = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        if !value.is_empty() {
            attributes.insert(name.to_owned(), value.to_owned());
        }
    };
    let identifier = match &step.operation {
        Operation::Image(image) => format!("docker-image://{}", image.reference),
        Operation::Http(source) => {
            set("http.filename", &source.filename);
            if let Some(checksum) = source.checksum {
                set("http.checksum", &checksum.to_string());
            }
            source.url.clone()
        }
        Operation::Git(source) => {
            set("git.fullurl", &source.remote);
            let bare = source.remote.split_once("://").map_or(&*source.remote, |(_, rest)| rest);
            let part = match (source.reference.as_str(), source.subdir.as_str()) {
                ("", "") => String::new(),
                (reference, "") => format!("#{reference}"),
                (reference, subdir) => format!("#{reference}:{subdir}"),
            };
            format!("git://{bare}{part}")
        }
        Operation::Local(_) | Operation::Run(_) | Operation::Files(_) | Operation::Merge => {
            return None;
        }
    };
    Some(PolicySource { identifier, attributes, platform: step.platform.clone() })
}
