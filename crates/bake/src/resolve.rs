//! From names on the command line to targets: groups, patterns, inheritance, overrides.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::BakeError;
use crate::budget::Budget;
use crate::definitions::Definitions;
use crate::error::{Location, Within as _, invalid};
use crate::overrides::{Override, OverrideFlags, overrides};
use crate::pattern::{is_pattern, matches};
use crate::target::Target;

/// The deepest nesting of groups, and of targets that inherit from each other.
const MAX_DEPTH: usize = 100;

/// The groups and targets that a command line names.
#[derive(Debug, Default)]
pub struct Resolved {
    /// Groups and their members.
    pub groups: BTreeMap<String, Vec<String>>,
    /// The targets, and those that they have as contexts.
    pub targets: BTreeMap<String, Target>,
}

impl Definitions {
    /// Resolves names of targets and groups, or patterns; `default` if there are none.
    ///
    /// # Errors
    /// If a name, parent or context is not defined, or an override is wrong.
    pub fn resolve(&self, names: &[String], flags: &OverrideFlags) -> Result<Resolved, BakeError> {
        let overrides = overrides(flags, self.environment())?;
        let names = self.expanded(names)?;
        let mut flattening = Flattening { all: self, found: Vec::new(), done: BTreeSet::new() };
        for name in &names {
            flattening.add(name, &mut Vec::new())?;
        }
        let mut found = flattening.found;
        let mut resolved = Resolved { groups: self.printed_groups(&names), ..Resolved::default() };
        let (done, budget) = (BTreeMap::new(), Budget::default());
        let mut merging = Merging { all: self, overrides: &overrides, done, budget };
        let asked: BTreeSet<String> = found.iter().cloned().collect();
        while let Some(name) = found.pop() {
            if resolved.targets.contains_key(&name) {
                continue;
            }
            let mut target = merging.target(&name, &mut Vec::new())?;
            target.complete();
            if !asked.contains(&name) {
                // It is built for another target alone.
                target.set("output", json!(["type=cacheonly"]))?;
            }
            found.extend(self.linked(&name, &target)?);
            resolved.targets.insert(name, target);
        }
        for change in overrides.iter().filter(|change| change.pattern != "*") {
            if !self.targets.keys().any(|name| matches(&change.pattern, name)) {
                let unknown = self.unknown("target like", &change.pattern);
                return Err(unknown.within(Location::Flag(change.flag.clone())));
            }
        }
        Ok(resolved)
    }

    /// The names with patterns replaced by what they match.
    fn expanded(&self, names: &[String]) -> Result<Vec<String>, BakeError> {
        if names.is_empty() {
            return Ok(vec!["default".to_owned()]);
        }
        let mut expanded = Vec::new();
        for name in names {
            // Targets of compose services have no dots in their names.
            let name = name.replace('.', "_");
            if !is_pattern(&name) {
                expanded.push(name);
                continue;
            }
            let mut found: Vec<String> = Vec::new();
            let all = self.groups.keys().chain(&self.order);
            for known in all.filter(|known| matches(&name, known)) {
                if !found.contains(known) {
                    found.push(known.clone());
                }
            }
            if found.is_empty() {
                return Err(self.unknown("target like", &name));
            }
            expanded.extend(found);
        }
        Ok(expanded)
    }

    /// The groups that `--print` shows: `default` with the names, and those among them.
    fn printed_groups(&self, names: &[String]) -> BTreeMap<String, Vec<String>> {
        let shown = match names {
            [only] if only == "default" => self.groups.get("default").map_or(names, Vec::as_slice),
            _ => names,
        };
        let mut groups = BTreeMap::new();
        let mut left = shown.to_vec();
        while let Some(name) = left.pop() {
            if let Some(members) = self.groups.get(&name)
                && name != "default"
                && groups.insert(name, members.clone()).is_none()
            {
                left.extend(members.iter().cloned());
            }
        }
        let shown: BTreeSet<String> = shown.iter().cloned().collect();
        groups.insert("default".into(), shown.into_iter().collect());
        groups
    }

    /// The targets that a target has as contexts.
    fn linked(&self, name: &str, target: &Target) -> Result<Vec<String>, BakeError> {
        let mut linked = Vec::new();
        for (context, other) in target.links() {
            let at = Location::Target(name.to_owned());
            if other == name {
                return Err(invalid!("the context `{context}` is the target itself").within(at));
            }
            if !self.targets.contains_key(&other) {
                return Err(invalid!(
                    "the context `{context}` is the target `{other}`, which is not there"
                )
                .within(at));
            }
            linked.push(other);
        }
        Ok(linked)
    }

    fn unknown(&self, kind: &'static str, name: &str) -> BakeError {
        let groups = self.groups.keys().map(String::as_str);
        let names = groups.chain(self.order.iter().map(String::as_str)).take(20);
        let known = match names.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "none".into(),
            names => names,
        };
        BakeError::NoTarget { kind, name: name.to_owned(), known }
    }
}

/// Groups on their way to the targets in them.
struct Flattening<'d> {
    all: &'d Definitions,
    found: Vec<String>,
    /// Targets that were found, and groups whose targets were: groups that share members would
    /// multiply them.
    done: BTreeSet<String>,
}

impl Flattening<'_> {
    fn add(&mut self, name: &str, path: &mut Vec<String>) -> Result<(), BakeError> {
        if self.done.contains(name) {
            return Ok(());
        }
        if path.len() > MAX_DEPTH {
            return Err(BakeError::Limit("groups are nested too deep"));
        }
        match self.all.groups.get(name) {
            Some(members) if !path.iter().any(|known| known == name) => {
                path.push(name.into());
                for member in members {
                    self.add(member, path)?;
                }
                path.pop();
                self.done.insert(name.to_owned());
            }
            _ if self.all.targets.contains_key(name) => {
                self.done.insert(name.to_owned());
                self.found.push(name.into());
            }
            _ => return Err(self.all.unknown("group or target", name)),
        }
        Ok(())
    }
}

/// Targets on their way to be merged with their parents.
struct Merging<'d> {
    all: &'d Definitions,
    overrides: &'d [Override],
    /// Targets that were merged: parents that are shared would multiply them.
    done: BTreeMap<String, Target>,
    budget: Budget,
}

impl Merging<'_> {
    /// A target with all that its parents say, and the overrides of each.
    fn target(&mut self, name: &str, path: &mut Vec<String>) -> Result<Target, BakeError> {
        if let Some(known) = self.done.get(name) {
            return Ok(known.clone());
        }
        let Some(own) = self.all.targets.get(name) else {
            return Err(self.all.unknown("target", name));
        };
        if path.iter().any(|known| known == name) {
            return Err(BakeError::InheritanceCycle(format!("{} → {name}", path.join(" → "))));
        }
        if path.len() > MAX_DEPTH {
            return Err(BakeError::Limit("`inherits` is nested too deep"));
        }
        path.push(name.into());
        let mut target = Target::default();
        for parent in &own.inherits {
            target.merge(&self.target(parent, path)?)?;
        }
        path.pop();
        target.merge(&own.target)?;
        self.budget.charge(target.weight())?;
        for change in self.overrides.iter().filter(|change| matches(&change.pattern, name)) {
            change.apply(&mut target).within(|| Location::Flag(change.flag.clone()))?;
        }
        self.done.insert(name.to_owned(), target.clone());
        Ok(target)
    }
}
