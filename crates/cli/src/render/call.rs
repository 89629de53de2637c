//! The output of `--call`: BuildKit's texts and JSON (`frontend/subrequests`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dockerfile::{Checked, Finding, Outline, TargetStage};
use graph::{LineRange, SourceFile};
use serde_json::{Map, Value, json};

use super::{Excerpt, Look, table};
use crate::progress::sanitize;

/// The violated rules and their number, without the error that prevents the build.
pub fn checked(checked: &Checked, file: &SourceFile, look: Look) -> String {
    let mut findings: Vec<&Finding> = checked.findings.iter().collect();
    findings.sort_by_key(|finding| finding.lines.first);
    let mut text = match (findings.len(), &checked.error) {
        (0, Some(_)) => String::new(),
        (0, None) => "Check complete, no warnings found.\n".to_owned(),
        (1, _) => "Check complete, 1 warning has been found!\n".to_owned(),
        (count, _) => format!("Check complete, {count} warnings have been found!\n"),
    };
    for finding in findings {
        text.push_str(&format!("\nWARNING: {}", finding.rule.name));
        if !finding.rule.url.is_empty() {
            text.push_str(&format!(" - {}", finding.rule.url));
        }
        text.push_str(&format!("\n{}\n", sanitize(&finding.message)));
        let excerpt = Excerpt { source: file.clone(), lines: finding.lines, span: finding.span };
        text.push_str(&excerpt.text(look));
    }
    text
}

/// The same as JSON, with the error that prevents the build.
pub fn checked_json(checked: &Checked, file: &SourceFile) -> String {
    let warning = |finding: &Finding| {
        let mut map = Map::new();
        map.insert("ruleName".into(), json!(finding.rule.name));
        map.insert("description".into(), json!(finding.rule.description));
        if !finding.rule.url.is_empty() {
            map.insert("url".into(), json!(finding.rule.url));
        }
        map.insert("detail".into(), json!(finding.message));
        map.insert("location".into(), location(finding.lines));
        Value::Object(map)
    };
    let warnings: Vec<Value> = checked.findings.iter().map(warning).collect();
    let source = json!({
        "filename": &*file.name, "language": "Dockerfile", "data": STANDARD.encode(oci::masked_text(&file.text)),
    });
    let mut map = Map::new();
    let none = warnings.is_empty();
    map.insert("warnings".into(), if none { Value::Null } else { json!(warnings) });
    map.insert("sources".into(), json!([source]));
    if let Some(error) = &checked.error {
        let place = error.lines.map_or_else(|| json!({}), location);
        map.insert("buildError".into(), json!({ "message": error.to_string(), "location": place }));
    }
    pretty(map)
}

/// The inputs that a target takes, as tables.
pub fn outline(outline: &Outline) -> String {
    let mut text = String::new();
    if !outline.name.is_empty() || !outline.description.is_empty() {
        let name = if outline.name.is_empty() { "(default)" } else { &outline.name };
        match outline.description.as_str() {
            "" => text.push_str(&format!("TARGET: {}\n", sanitize(name))),
            description => text.push_str(&format!(
                "TARGET:      {}\nDESCRIPTION: {}\n",
                sanitize(name),
                sanitize(description)
            )),
        }
        text.push('\n');
    }
    let required = |is: bool| if is { "true".to_owned() } else { String::new() };
    if !outline.arguments.is_empty() {
        let rows: Vec<[String; 3]> = outline
            .arguments
            .iter()
            .map(|a| [a.name.clone(), a.value.clone(), a.description.clone()])
            .collect();
        text.push_str(&table(["BUILD ARG", "VALUE", "DESCRIPTION"], &rows));
        text.push('\n');
    }
    if !outline.secrets.is_empty() {
        let rows: Vec<[String; 2]> =
            outline.secrets.iter().map(|s| [s.id.clone(), required(s.required)]).collect();
        text.push_str(&table(["SECRET", "REQUIRED"], &rows));
        text.push('\n');
    }
    if !outline.agents.is_empty() {
        let rows: Vec<[String; 2]> =
            outline.agents.iter().map(|s| [s.id.clone(), required(s.required)]).collect();
        text.push_str(&table(["SSH", "REQUIRED"], &rows));
        text.push('\n');
    }
    text
}

/// The same as JSON.
pub fn outline_json(outline: &Outline, file: &SourceFile) -> String {
    let mut map = Map::new();
    insert(&mut map, "name", &outline.name);
    insert(&mut map, "description", &outline.description);
    let arguments = outline.arguments.iter().map(|argument| {
        let mut map = Map::new();
        map.insert("name".into(), json!(argument.name));
        insert(&mut map, "description", &argument.description);
        insert(&mut map, "value", &argument.value);
        map.insert("location".into(), location(argument.lines));
        Value::Object(map)
    });
    let used = |name: &str, required: bool, lines: LineRange| {
        let mut map = Map::new();
        map.insert("name".into(), json!(name));
        if required {
            map.insert("required".into(), json!(true));
        }
        map.insert("location".into(), location(lines));
        Value::Object(map)
    };
    let lists: [(&str, Vec<Value>); 3] = [
        ("args", arguments.collect()),
        ("secrets", outline.secrets.iter().map(|s| used(&s.id, s.required, s.lines)).collect()),
        ("ssh", outline.agents.iter().map(|s| used(&s.id, s.required, s.lines)).collect()),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        map.insert(name.into(), Value::Array(list));
    }
    map.insert("sources".into(), json!([STANDARD.encode(oci::masked_text(&file.text))]));
    pretty(map)
}

/// The stages that can be built, as a table.
pub fn targets(targets: &[TargetStage]) -> String {
    let name = |target: &TargetStage| match (target.is_default, target.name.as_str()) {
        (true, "") => "(default)".to_owned(),
        (true, name) => format!("{name} (default)"),
        (false, name) => name.to_owned(),
    };
    let names: Vec<String> = targets.iter().map(|target| sanitize(&name(target))).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(6);
    let mut text = format!("{:width$} DESCRIPTION\n", "TARGET");
    for (name, target) in names.iter().zip(targets) {
        text.push_str(format!("{name:width$} {}", sanitize(&target.description)).trim_end());
        text.push('\n');
    }
    text
}

/// The same as JSON.
pub fn targets_json(targets: &[TargetStage], file: &SourceFile) -> String {
    let target = |target: &TargetStage| {
        let mut map = Map::new();
        insert(&mut map, "name", &target.name);
        if target.is_default {
            map.insert("default".into(), json!(true));
        }
        insert(&mut map, "description", &target.description);
        insert(&mut map, "base", &target.base);
        insert(&mut map, "platform", &target.platform);
        map.insert("location".into(), location(target.lines));
        Value::Object(map)
    };
    let mut map = Map::new();
    map.insert("targets".into(), targets.iter().map(target).collect());
    map.insert("sources".into(), json!([STANDARD.encode(oci::masked_text(&file.text))]));
    pretty(map)
}

fn insert(map: &mut Map<String, Value>, name: &str, value: &str) {
    if !value.is_empty() {
        map.insert(name.into(), json!(value));
    }
}

/// One range for each line, as in BuildKit.
fn location(lines: LineRange) -> Value {
    let place = |line: u32| json!({ "line": line });
    let range = |line: u32| json!({ "start": place(line), "end": place(line) });
    json!({ "ranges": (lines.first..=lines.last).map(range).collect::<Vec<_>>() })
}

fn pretty(map: Map<String, Value>) -> String {
    let text = serde_json::to_string_pretty(&Value::Object(map)).unwrap_or_default();
    format!("{text}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_range() {
        let line = |line: u32| json!({ "start": { "line": line }, "end": { "line": line } });
        let ranges = |first, last| location(LineRange { first, last })["ranges"].clone();
        assert_eq!(ranges(2, 2), json!([line(2)]));
        assert_eq!(ranges(2, 4), json!([line(2), line(3), line(4)]));
    }
}
