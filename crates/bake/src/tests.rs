use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{DefinitionFile, Definitions, FileFormat, Inputs, NoFiles, OverrideFlags};

fn loaded(text: &str, environment: &[(&str, &str)]) -> Result<Definitions, String> {
    let name = if text.trim_start().starts_with('{') { "a.json" } else { "a.hcl" };
    let files = vec![DefinitionFile { name: name.into(), text: text.into() }];
    let environment = environment.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let inputs = Inputs { files, variables: BTreeMap::new(), environment };
    Definitions::load(inputs, &NoFiles).map_err(|error| error.to_string())
}

/// The flags of a line, as far as the tests need them.
fn flags(line: &[&str]) -> OverrideFlags {
    let mut flags = OverrideFlags::default();
    for flag in line {
        let (name, value) = flag.split_once('=').unwrap_or((flag, "true"));
        let value = value.to_owned();
        match name {
            "--set" => flags.set.push(value),
            "--no-cache" => flags.no_cache = Some(true),
            "--push" => flags.push = true,
            "--load" => flags.load = true,
            "--provenance" => flags.provenance = Some(value),
            "--sbom" => flags.sbom = Some(value),
            "--policy" => {
                flags.replaces_policies = value == "disabled=true";
                flags.policies.push(value);
            }
            other => panic!("{other}"),
        }
    }
    flags
}

fn print(
    text: &str,
    targets: &[&str],
    line: &[&str],
    environment: &[(&str, &str)],
) -> Result<Value, String> {
    let loaded = loaded(text, environment)?;
    let targets: Vec<String> = targets.iter().map(|target| (*target).to_owned()).collect();
    let resolved = loaded.resolve(&targets, &flags(line)).map_err(|error| error.to_string())?;
    Ok(serde_json::from_str(&resolved.printed()).unwrap())
}

const FILE: &str = r#"
variable "TAG" {
  default = "latest"
}
variable "REGISTRY" {
  default = ""
}
function "name" {
  params = [tag]
  result = notequal("", REGISTRY) ? "${REGISTRY}/app:${tag}" : "app:${tag}"
}
group "default" {
  targets = ["app", "tools"]
}
target "_common" {
  args = {
    VERSION = TAG
    EXTRA   = null
  }
  platforms = ["linux/amd64"]
}
target "app" {
  inherits = ["_common"]
  context  = "."
  target   = "run"
  tags     = [name(TAG), TAG == "latest" ? "" : "app:latest"]
  cache-from = ["type=registry,ref=app:cache"]
  output   = ["type=docker"]
}
target "tools" {
  name       = "tools-${replace(tgt, ".", "-")}"
  matrix     = { tgt = ["1.2", "1.3"] }
  dockerfile = "${tgt}.Dockerfile"
  contexts   = { base = "target:app" }
  args       = { TGT = tgt }
}
"#;

#[test]
fn a_definition_is_printed_as_buildx_prints_it() {
    let all = print(FILE, &[], &[], &[("TAG", "v1"), ("REGISTRY", "r.example.com")]).unwrap();
    assert_eq!(
        all,
        json!({
            "group": {
                "default": {"targets": ["app", "tools"]},
                "tools": {"targets": ["tools-1-2", "tools-1-3"]},
            },
            "target": {
                "app": {
                    "context": ".", "dockerfile": "Dockerfile", "args": {"VERSION": "v1"},
                    "tags": ["r.example.com/app:v1", "app:latest"],
                    "cache-from": [{"type": "registry", "ref": "app:cache"}],
                    "target": "run", "platforms": ["linux/amd64"], "output": [{"type": "docker"}],
                },
                "tools-1-2": {
                    "context": ".", "contexts": {"base": "target:app"}, "dockerfile": "1.2.Dockerfile",
                    "args": {"TGT": "1.2"},
                },
                "tools-1-3": {
                    "context": ".", "contexts": {"base": "target:app"}, "dockerfile": "1.3.Dockerfile",
                    "args": {"TGT": "1.3"},
                },
            },
        })
    );
}

#[test]
fn linked_targets_are_built_for_others_alone() {
    let one = print(FILE, &["tools-1-2"], &[], &[]).unwrap();
    assert_eq!(one["group"], json!({"default": {"targets": ["tools-1-2"]}}));
    assert_eq!(one["target"]["app"]["output"], json!([{"type": "cacheonly"}]));
    assert_eq!(one["target"]["app"]["tags"], json!(["app:latest"]));
}

#[test]
fn overrides_count_last() {
    let flags = [
        "--set=app.args.VERSION=9",
        "--set=*.platform=linux/arm64,linux/amd64",
        "--set=app.tags=a",
        "--set=app.tags=b",
        "--set=app.cache-from+=type=local,src=c",
        "--set=app.target=",
        "--no-cache",
        "--push",
    ];
    let app = &print(FILE, &["app"], &flags, &[]).unwrap()["target"]["app"];
    assert_eq!(app["args"]["VERSION"], "9");
    assert_eq!(app["platforms"], json!(["linux/arm64,linux/amd64"]));
    assert_eq!(app["tags"], json!(["a", "b"]));
    assert_eq!(app["cache-from"][1], json!({"type": "local", "src": "c"}));
    assert_eq!(app["no-cache"], json!(true));
    assert_eq!(app["output"], json!([{"type": "docker"}, {"type": "image", "push": "true"}]));
}

#[test]
fn parents_hide_nothing_that_they_do_not_set() {
    let text = r#"
        target "base" {
          context = "src"
          dockerfile = "base.Dockerfile"
          args = { A = "1", B = "2" }
          tags = ["b", "a", "b"]
        }
        target "platforms" {
          args = { A = null }
          network = "host"
        }
        target "app" {
          inherits = ["base", "platforms"]
          labels = { from = target.base.context }
          colour = "red"
        }
        group "default" { targets = ["base", "app", "base"] }"#;
    let all = print(text, &[], &["--set=app.args.X"], &[]).unwrap();
    assert_eq!(all["group"]["default"]["targets"], json!(["app", "base"]));
    assert_eq!(
        all["target"]["app"],
        json!({
            "context": "src", "dockerfile": "base.Dockerfile", "args": {"A": "1", "B": "2"},
            "labels": {"from": "src"}, "tags": ["b", "a"], "network": "host",
            "entitlements": ["network.host"],
        })
    );
    let loaded = loaded(text, &[]).unwrap();
    assert_eq!(
        loaded.notes(),
        ["target `app`: there is no attribute `colour`: it changes nothing"]
    );
}

#[test]
fn push_and_load_leave_files_files() {
    let outputs = |output: &str, flags: &[&str]| {
        let text = format!("target \"a\" {{\n output = [{output}]\n}}");
        print(&text, &["a"], flags, &[]).unwrap()["target"]["a"]["output"].clone()
    };
    let local = json!([{"type": "local", "dest": "o"}]);
    assert_eq!(outputs("\"o\"", &["--push"]), local);
    assert_eq!(outputs("\"o\"", &["--load"]), local);
    assert_eq!(outputs("", &["--push"]), json!([{"type": "image", "push": "true"}]));
    assert_eq!(outputs("\"type=registry\"", &["--push"]), json!([{"type": "registry"}]));
    assert_eq!(outputs("\"type=registry\"", &["--set=a.push=false"]), Value::Null);
    let image = outputs("\"type=image,push=true\"", &["--set=a.push=false", "--load"]);
    assert_eq!(image, json!([{"type": "image", "push": "false"}, {"type": "docker"}]));
}

#[test]
fn attestations_are_one_of_each_type() {
    let text =
        "target \"a\" {\n attest = [\"type=provenance,mode=max\"]\n args = { A = \"$${B}\" }\n}";
    let flags = ["--provenance=mode=min", "--sbom=true", "--set=a.attest=type=sbom,generator=x"];
    let all = print(text, &["a"], &flags, &[]).unwrap();
    let attest = &all["target"]["a"]["attest"];
    assert_eq!(attest, &json!([{"type": "provenance", "mode": "min"}, {"type": "sbom"}]));
    // What is printed can be read again.
    assert_eq!(all["target"]["a"]["args"]["A"], "$${B}");
    assert_eq!(print(&all.to_string(), &["a"], &[], &[]).unwrap(), all);
}

#[test]
fn policies_are_handed_on() {
    let text = "target \"a\" {\n policy = [\"strict=true\"]\n}\ntarget \"b\" {\n inherits = [\"a\"]\n policy = [{ disabled = true }]\n}";
    let words = |targets: &[&str], flags: &[&str]| {
        let all = print(text, targets, flags, &[]).unwrap();
        all["target"][targets[0]]["policy"].clone()
    };
    assert_eq!(words(&["a"], &[]), json!([{"strict": "true"}]));
    assert_eq!(words(&["b"], &[]), json!([{"strict": "true"}, {"disabled": "true"}]));
    assert_eq!(words(&["a"], &["--policy=disabled=true"]), json!([{"disabled": "true"}]));
    assert_eq!(words(&["a"], &["--set=*.policy=disabled=true"]), json!([{"disabled": "true"}]));
    assert_eq!(
        words(&["a"], &["--policy=log-level=debug"]),
        json!([{"strict": "true"}, {"log-level": "debug"}])
    );
}

#[test]
fn json_is_the_same() {
    let text = r#"{
        "variable": {"TAG": {"default": "x"}},
        "group": {"default": {"targets": ["a"]}},
        "target": {"a": {"tags": ["app:${TAG}"], "args": {"N": 1}}}
    }"#;
    let all = print(text, &[], &[], &[("TAG", "y")]).unwrap();
    assert_eq!(
        all["target"]["a"],
        json!({"context": ".", "dockerfile": "Dockerfile", "args": {"N": "1"}, "tags": ["app:y"]})
    );
}

#[test]
fn targets_can_be_meant_by_a_pattern() {
    let text = "target \"app-1\" {}\ntarget \"app-2\" {}\ntarget \"web\" {}\ngroup \"apps\" { targets = [\"app-1\"] }";
    for (pattern, expected) in [
        ("app-*", &["app-1", "app-2"][..]),
        ("app-?", &["app-1", "app-2"]),
        ("app-[2-9]", &["app-2"]),
        ("*-[^2]", &["app-1"]),
        ("w*", &["web"]),
        ("apps*", &["app-1"]),
    ] {
        let all = print(text, &[pattern], &[], &[]).unwrap();
        let names: Vec<&str> =
            all["target"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, expected, "{pattern}");
    }
    assert!(print(text, &["x*"], &[], &[]).unwrap_err().contains("no target like `x*`"));
    assert!(print(text, &["app-["], &[], &[]).is_err());
    let set = print(text, &["app-*"], &["--set=app-?.target=t"], &[]).unwrap();
    assert_eq!(set["target"]["app-2"]["target"], "t");
}

#[test]
fn formats_are_detected() {
    for (file, text, kind) in [
        ("a.yml", "", FileFormat::Compose),
        ("a.YAML", "", FileFormat::Compose),
        ("a.json", "{\"services\": {}}", FileFormat::Json),
        ("a.hcl", "services: {}", FileFormat::Hcl),
        ("-", "services:\n  a: {build: .}\n", FileFormat::Compose),
        ("-", "x: 1\n---\nservices: {}\n", FileFormat::Compose),
        ("file", "{\"target\": {}}", FileFormat::Json),
        ("file", "target \"a\" {}", FileFormat::Hcl),
        ("file", "services = 1", FileFormat::Hcl),
    ] {
        let file = DefinitionFile { name: file.into(), text: text.into() };
        assert_eq!(FileFormat::detect(&file), kind, "{file:?}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (text, targets, flags, word) in [
        ("target \"a\" {}", &["b"][..], &[][..], "no group or target `b`; there are a"),
        ("target \"a\" {}", &[], &[], "no group or target `default`"),
        ("target \"a b\" {}", &["a b"], &[], "`a b` is no name"),
        ("target \"a\" { args = { X = target.b.tags } }", &["a"], &[], "no `target.b.tags`"),
        (
            "target \"a\" { tags = [nope] }",
            &["a"],
            &[],
            "target `a`: `tags`: there is no variable `nope`",
        ),
        (
            "target \"a\" { inherits = [\"b\"] }\ntarget \"b\" { inherits = [\"a\"] }",
            &["a"],
            &[],
            "inherit from each other",
        ),
        (
            "target \"a\" { contexts = { x = \"target:y\" } }",
            &["a"],
            &[],
            "the target `y`, which is not there",
        ),
        ("target \"a\" { matrix = { x = [1] } }", &["a"], &[], "needs a `name`"),
        ("target \"a\" { contexts = { x = \"target:a\" } }", &["a"], &[], "is the target itself"),
        ("target \"a\" {", &["a"], &[], "1"),
        ("target \"a\" {}", &["a"], &["--set=a.args=1"], "it is TARGET.args.NAME=VALUE"),
        ("target \"a\" {}", &["a"], &["--set=b.tags=1"], "no target like `b`"),
        ("target \"a\" {}", &["a"], &["--set=a"], "TARGET.KEY=VALUE"),
        ("target \"a\" {}", &["a"], &["--set=a.colour=1"], "there is no attribute `colour`"),
        ("resource \"a\" \"b\" {}", &["a"], &[], "`resource`"),
    ] {
        let error = print(text, targets, flags, &[]).unwrap_err();
        assert!(error.contains(word), "{text} {flags:?}: {error}");
    }
}

#[test]
fn targets_and_variables_are_listed() {
    let loaded = loaded(FILE, &[]).unwrap();
    let names: Vec<String> = loaded.list_targets().into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["default", "tools", "_common", "app", "tools-1-2", "tools-1-3"]);
    let variables = loaded.list_variables().unwrap();
    assert_eq!(
        (variables[1].name.as_str(), variables[1].value.as_deref()),
        ("TAG", Some("latest"))
    );
}

#[test]
fn resolving_ends() {
    let mut text = String::new();
    for at in 0..60 {
        let next = at + 1;
        text.push_str(&format!("target \"t{at}\" {{ inherits = [\"t{next}\", \"t{next}\"] }}\n"));
        text.push_str(&format!("group \"g{at}\" {{ targets = [\"g{next}\", \"g{next}\"] }}\n"));
    }
    text.push_str("target \"t60\" {}\ngroup \"g60\" { targets = [\"t0\"] }\n");
    let all = print(&text, &["g0"], &[], &[]).unwrap();
    assert_eq!(all["target"]["t0"]["context"], ".");
    let mut chain = String::new();
    for at in 0..2000 {
        chain.push_str(&format!("target \"t{at}\" {{ inherits = [\"t{}\"] }}\n", at + 1));
    }
    assert!(print(&chain, &["t0"], &[], &[]).unwrap_err().contains("nested too deep"));
    // A large parent of many targets.
    let mut wide = "target \"base\" {\n args = {\n".to_owned();
    wide.extend((0..5000).map(|at| format!("A{at} = 1\n")));
    wide.push_str("}\n}\n");
    wide.extend((0..2000).map(|at| format!("target \"w{at}\" {{ inherits = [\"base\"] }}\n")));
    assert!(print(&wide, &["w1"], &[], &[]).is_ok());
    assert!(print(&wide, &["w*"], &[], &[]).unwrap_err().contains("too many steps"));
    let axis = "[for v in range(1000) : v]";
    let matrix = |at: usize| {
        format!("target \"m{at}\" {{\n name = \"m{at}-${{v}}\"\n matrix = {{ v = {axis} }}\n}}\n")
    };
    let many: String = (0..100).map(matrix).collect();
    assert!(print(&many, &["m0"], &[], &[]).unwrap_err().contains("too many steps"));
    let list = "target \"a\" {\n tags = [for v in range(5000) : \"t${v}\"]\n}\n";
    assert!(print(list, &["a"], &[], &[]).unwrap_err().contains("`tags`: the list is too long"));
}

#[test]
fn errors_show_no_secrets() {
    for (text, flags, word) in [
        ("target \"a\" {}", &["--set=a.args=hush"][..], "`--set a.args`: it is TARGET.args.NAME"),
        ("target \"a\" {}", &["--set=a.cache-to=type=s3,x=\"hush"], "`--set a.cache-to`: "),
        ("target \"a\" {}", &["--set=b.tags+=hush"], "`--set b.tags`: there is no target like"),
        ("target \"a\" { cache-to = \"type=s3,x=hush\" }", &[], "`cache-to`: it is no list"),
        ("target \"a\" { cache-to = { x = \"hush\" } }", &[], "`cache-to`: it is no list"),
        ("target \"a\" { cache-to = [[\"hush\"]] }", &[], "a list is neither text nor map"),
        ("target \"a\" { args = [\"A=hush\"] }", &[], "`args`: a list is no map"),
        ("target \"a\" { tags = { A = \"hush\" } }", &[], "`tags`: a map is no list"),
        ("target \"a\" { args = { A = { B = \"hush\" } } }", &[], "`args`: `A`: a map is no text"),
    ] {
        let error = print(text, &["a"], flags, &[]).unwrap_err();
        assert!(error.contains(word) && !error.contains("hush"), "{text} {flags:?}: {error}");
    }
    let secret = BTreeMap::from([("TOKEN".to_owned(), "hush".to_owned())]);
    let inputs = Inputs { environment: secret, ..Inputs::default() };
    let definitions = Definitions::load(inputs, &NoFiles).unwrap();
    assert!(!format!("{definitions:?}").contains("hush"));
}

proptest! {
    #[test]
    fn any_definition_is_resolved_or_refused(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "target", "group", "variable", "function", "\"a\"", "\"b\"", "{", "}", "\n", "=",
                "args", "tags", "matrix", "name", "inherits", "targets", "default", "params", "result",
                "[", "]", "target.a.tags", "a", "\"${a}\"", "1", "null", "contexts", "\"target:b\"",
                "output", "\"type=image\"", ",",
            ]),
            0..40,
        ),
    ) {
        let _ = print(&words.join(" "), &["a"], &["--push"], &[]);
    }
}
