//! Why steps ran: what is known of them beside what earlier builds kept of theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use cache::Sidecar;
use cache::explain::{
    Difference, Fact, FactBook, FileFact, LocalFacts, Why, read_sidecar_facts, why,
};
use execute::Executor;
use futures_util::future::join_all;
use graph::{Graph, StepId};
use layer::Chain;
use solve::{InputFacts, StepFacts};

use crate::Error;
use crate::reason::{Explained, Reason};
use crate::request::Required;
use crate::session::Build;

/// The steps of a build, to be explained.
pub(crate) struct Explaining<'a> {
    pub graph: &'a Graph,
    pub steps: &'a [StepFacts<Chain>],
    pub executor: &'a Executor,
    /// The sidecars of the caches that were read.
    pub sidecars: &'a [Sidecar],
}

impl Explaining<'_> {
    /// The facts about all steps, in words.
    pub(crate) fn facts(&self) -> Vec<(StepId, Fact)> {
        let files = |input: &InputFacts| {
            let Some(query) = &input.content else { return Vec::new() };
            let listed = self.executor.listing(input.step, query).into_iter();
            let short = |digest: oci::Digest| digest.hex()[..16].to_owned();
            listed
                .map(|file| FileFact {
                    path: file.path,
                    mode: file.mode,
                    size: file.size,
                    digest: file.digest.map(short).unwrap_or_default(),
                })
                .collect()
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        Fact::of_steps(self.graph, self.steps, now, files)
    }

    /// Why steps were not found.
    pub(crate) fn explained(
        &self,
        facts: &[(StepId, Fact)],
        known: &FactBook,
        missed: &BTreeSet<StepId>,
    ) -> Vec<Explained> {
        let shown = facts
            .iter()
            .filter(|(id, _)| missed.contains(id) && self.graph.step(*id).shown_as.is_none());
        shown
            .map(|(id, fact)| Explained {
                step: fact.step.clone(),
                reason: self.reason(*id, fact, known, missed),
            })
            .collect()
    }

    /// Returns the facts to keep for later builds, if any step ran, and the reasons why steps ran, if
    /// that was asked. A step that `failed` ran too, and leaves nothing.
    pub(crate) async fn conclude(
        &self,
        build: &Build<'_>,
        failed: Option<StepId>,
    ) -> (Vec<Fact>, Option<Vec<Explained>>) {
        let mut ran: BTreeSet<StepId> =
            self.steps.iter().filter(|step| step.ran).map(|step| step.id).collect();
        let has_work = ran.iter().any(|id| !self.graph.step(*id).inputs.is_empty());
        ran.extend(failed);
        if !has_work && failed.is_none() {
            return (Vec::new(), build.request.explain.then(Vec::new));
        }
        let facts = self.facts();
        let mut explained = None;
        if build.request.explain {
            explained = Some(self.explained(&facts, &known(build, self.sidecars).await, &ran));
        }
        if !has_work {
            return (Vec::new(), explained);
        }
        let facts: Vec<Fact> = facts.into_iter().map(|(_, fact)| fact).collect();
        // Words for people: without them the build is as good.
        drop(LocalFacts::open(build.session.store()).and_then(|kept| kept.keep(&facts)));
        (facts, explained)
    }

    /// Why a step that must not run is not found, in a line.
    pub(crate) async fn refusal(&self, build: &Build<'_>, id: StepId) -> Option<String> {
        let facts: BTreeMap<StepId, Fact> = self.facts().into_iter().collect();
        let known = known(build, self.sidecars).await;
        let reason = self.reason(id, facts.get(&id)?, &known, &BTreeSet::new());
        Some(format!("why: {}", reason.lines().join("; ")))
    }

    fn reason(
        &self,
        id: StepId,
        fact: &Fact,
        known: &FactBook,
        missed: &BTreeSet<StepId>,
    ) -> Reason {
        let step = self.graph.step(id);
        if step.ignore_cache {
            return Reason::Asked;
        }
        // The step below says what differs; that this one runs for it is all there is to say, but
        // for what differs here too.
        let below = step.inputs.iter().find(|input| missed.contains(input));
        let below = below.map(|input| self.graph.step(*input));
        let below = below.map(|below| below.shown_as.map_or(below, |id| self.graph.step(id)));
        match (why(fact, known.facts()), below) {
            (Why::Differs { differences, .. }, Some(below)) => {
                let own: Vec<Difference> = differences
                    .into_iter()
                    .filter(|difference| !difference.what.starts_with("what it stands on"))
                    .collect();
                match own.is_empty() {
                    true => Reason::StandsOn(below.name.clone()),
                    false => Reason::Differs(own),
                }
            }
            (Why::Differs { differences, .. }, None) => Reason::Differs(differences),
            (Why::Unknown, Some(below)) => Reason::StandsOn(below.name.clone()),
            (Why::Unknown, None) => Reason::Unknown,
            (Why::Known { .. }, _) => Reason::NotKept,
        }
    }
}

/// Facts about steps of earlier builds, from this machine and from sidecars.
pub(crate) async fn known(build: &Build<'_>, sidecars: &[Sidecar]) -> FactBook {
    let local = LocalFacts::open(build.session.store()).and_then(|facts| facts.book());
    let mut book = local.unwrap_or_default();
    for other in join_all(sidecars.iter().map(read_sidecar_facts)).await {
        book.add(other.facts().cloned());
    }
    book
}

/// The steps that must be found.
///
/// # Errors
/// A sentence that names what there is no step of.
pub(crate) fn required(graph: &Graph, wanted: &[Required]) -> Result<BTreeSet<StepId>, Error> {
    let mut required = BTreeSet::new();
    for wanted in wanted {
        let before = required.len();
        for (id, step) in graph.steps() {
            let is_work = !step.inputs.is_empty() && step.shown_as.is_none();
            let is_wanted = match wanted {
                Required::All => true,
                Required::Named(name) => is_named(&step.name, name),
            };
            if is_work && is_wanted {
                required.insert(id);
            }
        }
        if let Required::Named(name) = wanted
            && required.len() == before
        {
            return Err(Error::Request(format!(
                "`--require-cached={name}`: no step of this build is called so; give `all`, a stage, a step of it as `STAGE:2`, or how a step begins, as `RUN make`"
            )));
        }
    }
    Ok(required)
}

/// True if a step, such as `[build 2/5] RUN make` or `[linux/arm64 build  2/12] RUN make`, is of a stage, has a
/// number in it, or begins so.
fn is_named(step: &str, name: &str) -> bool {
    let Some((place, text)) = step.strip_prefix('[').and_then(|rest| rest.split_once("] ")) else {
        return step.starts_with(name);
    };
    if !name.is_empty() && text.starts_with(name) {
        return true;
    }
    let mut words = place.split_whitespace().rev();
    let number = words.next().and_then(|place| place.split('/').next()).unwrap_or_default();
    // A platform may stand before the stage.
    let stage = words.next().filter(|word| !word.contains('/')).unwrap_or_default();
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    match name.rsplit_once(':') {
        Some(wanted) if is_number(wanted.1) => (stage, number) == wanted,
        _ if is_number(name) => (stage, number) == ("", name),
        _ => stage == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_named_in_several_ways() {
        for (step, name, expected) in [
            ("[build 2/5] RUN make", "build", true),
            ("[build 2/5] RUN make", "build:2", true),
            ("[build 2/5] RUN make", "build:3", false),
            ("[build 2/5] RUN make", "2", false),
            ("[build 2/5] RUN make", "RUN make", true),
            ("[build 2/5] RUN make", "RUN test", false),
            ("[2/5] RUN make", "2", true),
            ("[2/5] RUN make", "5", false),
            ("[2/5] RUN make", "", false),
            ("[stage-1 2/5] COPY a:1 b", "COPY a:1", true),
            ("[build  2/12] RUN make", "build:2", true),
            ("[linux/arm64 build 2/5] RUN make", "build", true),
            ("[linux/arm64 build 2/5] RUN make", "build:2", true),
            ("[linux/arm64 2/5] RUN make", "2", true),
        ] {
            assert_eq!(is_named(step, name), expected, "{step} {name}");
        }
    }
}
