//! Handles of results: definitions that stand for a solve, which a client passes to another build
//! as a context (bake's linked targets).
//!
//! Nothing of LLB is in them: a source with a name that only kiln knows, and a step that ends it,
//! as every definition has one.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, PoisonError};

use oci::Digest;
use prost::Message as _;
use tonic::Status;

use crate::builder::{Solve, SolveInput};
use crate::proto::pb::{Definition, Input, Op, OpMetadata, SourceOp};

/// The scheme of a handle's source.
const SCHEME: &str = "kiln://result/";

/// The solves that handles stand for, as long as their builds run. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Results(Arc<Mutex<HashMap<String, Arc<Solve>>>>);

impl Results {
    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Solve>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn keep(&self, name: String, solve: Arc<Solve>) {
        self.known().insert(name, solve);
    }

    pub(crate) fn forget(&self, name: &str) {
        self.known().remove(name);
    }

    /// The solve that a definition stands for; none for an empty definition.
    ///
    /// # Errors
    /// If it is LLB, or its build has ended.
    pub(crate) fn resolve(&self, definition: &Definition) -> Result<Option<SolveInput>, Status> {
        if definition.def.is_empty() {
            return Ok(None);
        }
        let name = only_source(definition)
            .and_then(|source| source.identifier.strip_prefix(SCHEME).map(str::to_owned));
        let handle = name.ok_or_else(|| {
            Status::unimplemented(
                "kiln builds Dockerfiles and takes no LLB: of definitions only those are taken \
                 that kiln gave as the result of a solve",
            )
        })?;
        let solve = self.known().get(&handle).cloned();
        let solve = solve.ok_or_else(|| {
            Status::not_found("the build whose result is a context here has ended")
        })?;
        Ok(Some(SolveInput { handle, solve }))
    }
}

/// A name that cannot be guessed.
pub(crate) fn fresh_name() -> io::Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The definition that stands for a result.
pub(crate) fn definition(name: &str) -> Definition {
    let source = Op {
        source: Some(SourceOp { identifier: format!("{SCHEME}{name}"), ..SourceOp::default() }),
        ..Op::default()
    }
    .encode_to_vec();
    let digest = Digest::of(&source).to_string();
    let end = Op { inputs: vec![Input { digest: digest.clone(), index: 0 }], ..Op::default() }
        .encode_to_vec();
    let ends = Digest::of(&end).to_string();
    Definition {
        def: vec![source, end],
        metadata: [digest, ends].map(|digest| (digest, OpMetadata::default())).into(),
    }
}

/// The source of a definition that has nothing else: a source, and the step that ends it.
pub(crate) fn only_source(definition: &Definition) -> Option<SourceOp> {
    let [first, second] = definition.def.as_slice() else { return None };
    let (first, second) = (Op::decode(first.as_slice()).ok()?, Op::decode(second.as_slice()).ok()?);
    let (source, end) = match (first.source, second.source) {
        (Some(source), None) => (source, second.inputs),
        (None, Some(source)) => (source, first.inputs),
        _ => return None,
    };
    (end.len() == 1).then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_leads_back_to_its_name() {
        let name = fresh_name().unwrap();
        assert_eq!(name.len(), 32);
        let made = definition(&name);
        assert_eq!((made.def.len(), made.metadata.len()), (2, 2));
        assert_eq!(only_source(&made).unwrap().identifier, format!("{SCHEME}{name}"));
        let results = Results::default();
        assert!(results.resolve(&Definition::default()).unwrap().is_none());
        assert_eq!(results.resolve(&made).unwrap_err().code(), tonic::Code::NotFound);
        let llb = Definition { def: vec![b"x".to_vec()], ..Definition::default() };
        assert!(results.resolve(&llb).unwrap_err().message().contains("takes no LLB"));
    }
}
