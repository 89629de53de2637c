//! Questions about a Dockerfile (`requestid`), answered without a build.

use std::collections::BTreeMap;
use std::sync::Arc;

use graph::Events;
use service::{Answer, Solve, SolveError};

use super::{LocalBuilder, PreparedSolve, build_error};
use crate::args::{Call, CallKind};
use crate::render::{self, Look};

/// The version of the answers' form (BuildKit's `frontend/subrequests`).
const VERSION: &str = "1.0.0";
/// The question which questions there are.
const DESCRIBE: &str = "frontend.subrequests.describe";

impl LocalBuilder {
    /// Answers the question of a solve.
    pub(super) async fn answer(
        self,
        solve: Arc<Solve>,
        events: Events,
    ) -> Result<Answer, SolveError> {
        let question = solve.frontend.attributes.get("requestid").cloned().unwrap_or_default();
        if question == DESCRIBE {
            return Ok(answer(&questions(), "outline\ntargets\nlint\n"));
        }
        let call =
            Call::parse(&question).map_err(|error| SolveError::refused(error.to_string()))?;
        let kind = call.ok_or_else(|| SolveError::refused(format!("requestid={question}")))?.kind;
        let prepared = self.prepare_result(&solve, &events).await?;
        let PreparedSolve { request, session, .. } = &prepared;
        match kind {
            CallKind::Check => {
                let checked = build::check(session, request, &events).await;
                let (checked, file) = checked.map_err(build_error)?;
                let json = render::checked_json(&checked, &file);
                let mut answer = answer(&json, &render::checked(&checked, &file, Look::Plain));
                let is_bad = checked.error.is_some() || !checked.findings.is_empty();
                let status = if is_bad { "1" } else { "0" };
                answer.metadata.insert("result.statuscode".into(), status.into());
                Ok(answer)
            }
            CallKind::Outline => {
                let outline = build::outline(session, request, &events).await;
                let (outline, file) = outline.map_err(build_error)?;
                Ok(answer(&render::outline_json(&outline, &file), &render::outline(&outline)))
            }
            CallKind::Targets => {
                let targets = build::targets(session, request, &events).await;
                let (targets, file) = targets.map_err(build_error)?;
                Ok(answer(&render::targets_json(&targets, &file), &render::targets(&targets)))
            }
        }
    }
}

fn answer(json: &str, text: &str) -> Answer {
    let metadata = [("result.json", json), ("result.txt", text), ("version", VERSION)];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
    Answer { metadata: BTreeMap::from(metadata) }
}

/// The questions that there are.
fn questions() -> String {
    let question = |name: &str, description: &str| {
        serde_json::json!({
            "name": name, "version": VERSION, "type": "rpc", "description": description,
            "metadata": [{ "name": "result.json" }, { "name": "result.txt" }],
        })
    };
    let all = [
        question("frontend.outline", "List all parameters current build target supports"),
        question("frontend.targets", "List all targets current build supports"),
        question("frontend.lint", "Lint a Dockerfile"),
        question(DESCRIBE, "List available subrequest types"),
    ];
    serde_json::to_string(&all).unwrap_or_default()
}
