//! The JSON of `--print`.

use serde_json::{Map, Value, json};

use crate::resolve::Resolved;

impl Resolved {
    /// The groups and targets as buildx prints them, with a newline at the end.
    pub fn printed(&self) -> String {
        let groups = self.groups.iter();
        let groups: Map<String, Value> =
            groups.map(|(name, targets)| (name.clone(), json!({ "targets": targets }))).collect();
        let targets = self.targets.iter();
        let targets: Map<String, Value> =
            targets.map(|(name, target)| (name.clone(), target.printed())).collect();
        let all = json!({ "group": groups, "target": targets });
        serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"
    }
}
