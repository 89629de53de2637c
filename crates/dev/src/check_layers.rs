//! Dependencies between crates: `cargo metadata` against `[workspace.metadata.layers]`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow};
use serde_json::Value;

use crate::tools;

/// Crates for tests and developers only. They may use any crate; others may use them in tests only.
const DEV_ONLY: &[&str] = &["dev", "fixtures", "testing"];

pub fn run(_: &[String]) -> Result<()> {
    let text =
        tools::output(&mut tools::cargo(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata")?;
    let (faults, crates) = check(&metadata)?;
    if faults.is_empty() {
        println!("layers: {crates} crates use what they may");
        return Ok(());
    }
    Err(anyhow!("the layers are broken:\n  {}", faults.join("\n  ")))
}

fn check(metadata: &Value) -> Result<(Vec<String>, usize)> {
    let table =
        metadata["metadata"]["layers"].as_object().context("Cargo.toml has no table of layers")?;
    let table: BTreeMap<&str, Vec<&str>> = table
        .iter()
        .map(|(name, row)| {
            (
                name.as_str(),
                row.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
            )
        })
        .collect();
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut faults = Vec::new();
    for name in table.keys().filter(|name| !names.contains(name)) {
        faults.push(format!("the table names `{name}`, which is no crate"));
    }
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if DEV_ONLY.contains(&name) {
            continue;
        }
        let Some(row) = table.get(name) else {
            faults.push(format!("`{name}` has no row in the table"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let in_tests = dependency["kind"] == "dev" && DEV_ONLY.contains(&used);
            if names.contains(&used) && !row.contains(&used) && !in_tests {
                faults.push(format!("`{name}` uses `{used}`, and may not"));
            }
        }
    }
    Ok((faults, packages.len()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;
    use serde_json::json;

    /// Checks that the walks of ARCHITECTURE.md name existing files and items, enter each file once, and
    /// are counted correctly.
    #[test]
    fn the_walks_lead_through_rooms_that_exist() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let text = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
        let (_, walks) = text.split_once("\n## 10. Walks").unwrap();
        let counts: Vec<(usize, usize)> =
            walks.lines().filter(|line| line.starts_with("| [Follow")).map(counts).collect();
        let walks: Vec<&str> = walks.split("\n### ").skip(1).collect();
        assert_eq!(counts.len(), walks.len());
        let mut entered = BTreeSet::new();
        for (walk, counts) in walks.into_iter().zip(counts) {
            let is_room = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit());
            let rooms: Vec<(&str, &str)> = walk.lines().filter(is_room).map(room).collect();
            for (path, item) in &rooms {
                let (of, file) = path.split_once('/').unwrap();
                let file = root.join("crates").join(of).join("src").join(file);
                let source = fs::read_to_string(&file).unwrap_or_else(|_| panic!("no {path}"));
                let is_there = ["fn", "struct", "trait", "enum"]
                    .iter()
                    .any(|kind| source.contains(&format!("{kind} {item}")));
                assert!(is_there, "no `{item}` in {path}");
            }
            let files: BTreeSet<&str> = rooms.iter().map(|(path, _)| *path).collect();
            assert_eq!(files.len(), rooms.len(), "a file stands twice: {walk}");
            let new = files.difference(&entered).count();
            assert_eq!((files.len(), new), counts, "{walk}");
            entered.extend(files);
        }
    }

    /// The rooms of a walk, and those that are in no earlier one: the last columns of its row.
    fn counts(row: &str) -> (usize, usize) {
        let mut columns = row.trim_end_matches(" |").rsplit(" | ");
        let mut count = || columns.next().unwrap().parse().unwrap();
        let new = count();
        (count(), new)
    }

    /// The path and the item of a room.
    fn room(line: &str) -> (&str, &str) {
        line.split('`').nth(1).unwrap().split_once("::").unwrap()
    }

    #[test]
    fn an_arrow_that_is_not_in_the_table() {
        let package = |name: &str, used: Value| json!({"name": name, "dependencies": used});
        let mut metadata = json!({
            "metadata": {"layers": {"a": [], "b": ["a"]}},
            "packages": [
                package("a", json!([{"name": "testing", "kind": "dev"}, {"name": "serde", "kind": null}])),
                package("b", json!([{"name": "a", "kind": null}])),
                package("testing", json!([{"name": "b", "kind": null}])),
            ],
        });
        assert_eq!(check(&metadata).unwrap(), (vec![], 3));
        metadata["packages"][0]["dependencies"] =
            json!([{"name": "b", "kind": null}, {"name": "testing", "kind": null}]);
        assert_eq!(
            check(&metadata).unwrap().0,
            ["`a` uses `b`, and may not", "`a` uses `testing`, and may not"]
        );
        metadata["packages"].as_array_mut().unwrap().push(package("c", json!([])));
        assert_eq!(check(&metadata).unwrap().0.last().unwrap(), "`c` has no row in the table");
    }
}
