//! `LLBBridge`: the gateway, through which clients drive the frontend of their build.
//!
//! A solve here is a wish: it is kept until the client says what to do with its result. Only a
//! question is answered at once, and what the client wants to be evaluated is built at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tonic::{Request, Status};

use crate::builder::{FrontendRequest, Solve, SolveInput};
use crate::builds::Build;
use crate::control::worker_record;
use crate::daemon::Daemon;
use crate::proto::Empty;
use crate::proto::gateway as wire;
use crate::proto::pb::Definition;
use crate::raw_source::RawSource;
use crate::solve::{canceled, sorted};
use crate::{caps, handle};

/// `LLBBridge.Ping`: what the daemon can do.
pub(crate) async fn ping(
    daemon: Arc<Daemon>,
    request: Request<Empty>,
) -> Result<wire::PongResponse, Status> {
    daemon.builds.of_call(&request).await?;
    Ok(wire::PongResponse {
        frontend_api_caps: caps::gateway(),
        llb_caps: caps::llb(),
        workers: vec![worker_record(&daemon.builder.worker())],
    })
}

impl Daemon {
    /// The results that a frontend's inputs stand for.
    ///
    /// # Errors
    /// If one of them is LLB, or the build that it is of has ended.
    pub(crate) fn inputs(
        &self,
        definitions: &HashMap<String, Definition>,
    ) -> Result<BTreeMap<String, SolveInput>, Status> {
        let mut inputs = BTreeMap::new();
        for (name, definition) in definitions {
            if let Some(input) = self.results.resolve(definition)? {
                inputs.insert(name.clone(), input);
            }
        }
        Ok(inputs)
    }

    /// Runs the steps of a solve, without outputs.
    async fn evaluated(&self, build: &Build, solve: &Solve) -> Result<(), Status> {
        let steps = Solve { exporters: Vec::new(), cache_exports: Vec::new(), ..solve.clone() };
        let gone = async {
            match &solve.session {
                Some(session) => session.closed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            built = self.builder.build(Arc::new(steps), build.progress.events()) => {
                Ok(built.map(drop)?)
            }
            () = gone => Err(canceled()),
        }
    }
}

/// A download or a repository, of which the client reads files.
fn raw_source(definition: &Definition) -> Option<RawSource> {
    let source = handle::only_source(definition)?;
    let schemes = ["http://", "https://", "git://"];
    let is_known = schemes.iter().any(|scheme| source.identifier.starts_with(scheme));
    is_known.then(|| RawSource { attributes: sorted(&source.attrs), identifier: source.identifier })
}

/// `LLBBridge.Solve`.
pub(crate) async fn solve(
    daemon: Arc<Daemon>,
    request: Request<wire::SolveRequest>,
) -> Result<wire::SolveResponse, Status> {
    let build = daemon.builds.of_call(&request).await?;
    let request = request.into_inner();
    if request.source_policies.iter().any(|policy| !policy.rules.is_empty()) {
        return Err(Status::unimplemented(
            "source policies are not read: pin images by digest in FROM",
        ));
    }
    let solve = if request.frontend.is_empty() {
        let definition = request.definition.unwrap_or_default();
        match raw_source(&definition) {
            Some(source) => {
                let frontend =
                    FrontendRequest { source: Some(source), ..FrontendRequest::default() };
                Arc::new(daemon.solve_request(&build, frontend).await?)
            }
            None => match daemon.results.resolve(&definition)? {
                Some(input) => input.solve,
                None => return Ok(wire::SolveResponse::default()),
            },
        }
    } else {
        let frontend = FrontendRequest {
            frontend: request.frontend,
            attributes: sorted(&request.frontend_opt),
            inputs: daemon.inputs(&request.frontend_inputs)?,
            source: None,
        };
        let mut solve = daemon.solve_request(&build, frontend).await?;
        // The client sends the caches with each solve, and in the attributes too.
        solve.cache_imports.extend(crate::solve::typed(&request.cache_imports));
        Arc::new(solve)
    };
    let answer = daemon.builder.ask(solve.clone(), build.progress.events()).await?;
    if let Some(answer) = answer {
        let result = wire::SolveResult {
            refs: Some(wire::Refs::Ref(wire::Ref::default())),
            metadata: answer.metadata.into_iter().collect(),
        };
        return Ok(wire::SolveResponse { result: Some(result), ..Default::default() });
    }
    if request.evaluate {
        daemon.evaluated(&build, &solve).await?;
    }
    let id = handle::fresh_name().map_err(|error| Status::internal(error.to_string()))?;
    build.keep_solve(id.clone(), solve.clone());
    daemon.results.keep(id.clone(), solve);
    let result = wire::Ref { def: Some(handle::definition(&id)), id };
    let result =
        wire::SolveResult { refs: Some(wire::Refs::Ref(result)), metadata: HashMap::new() };
    Ok(wire::SolveResponse { result: Some(result), ..Default::default() })
}

/// `LLBBridge.Return`: what the build is to export.
pub(crate) async fn give_back(
    daemon: Arc<Daemon>,
    request: Request<wire::ReturnRequest>,
) -> Result<Empty, Status> {
    let build = daemon.builds.of_call(&request).await?;
    build
        .returned
        .set(request.into_inner())
        .map_err(|_| Status::failed_precondition("the build has its result already"))?;
    Ok(Empty {})
}

/// `LLBBridge.Evaluate`.
pub(crate) async fn evaluate(
    daemon: Arc<Daemon>,
    request: Request<wire::EvaluateRequest>,
) -> Result<Empty, Status> {
    let build = daemon.builds.of_call(&request).await?;
    let id = request.into_inner().r#ref;
    let missing = || Status::not_found(format!("no such reference {}", id.escape_debug()));
    let solve = build.solve(&id).ok_or_else(missing)?;
    daemon.evaluated(&build, &solve).await?;
    Ok(Empty {})
}

/// `LLBBridge.Inputs`: what the build was given.
pub(crate) async fn inputs(
    daemon: Arc<Daemon>,
    request: Request<Empty>,
) -> Result<wire::InputsResponse, Status> {
    let build = daemon.builds.of_call(&request).await?;
    Ok(wire::InputsResponse { definitions: build.request.frontend_inputs.clone() })
}

/// `LLBBridge.Warn`: a warning of the client's own.
pub(crate) async fn warn(
    daemon: Arc<Daemon>,
    request: Request<wire::WarnRequest>,
) -> Result<Empty, Status> {
    let build = daemon.builds.of_call(&request).await?;
    build.progress.warn(request.into_inner());
    Ok(Empty {})
}
