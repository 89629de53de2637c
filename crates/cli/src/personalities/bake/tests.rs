use super::*;
use crate::args::FlagError;
use crate::personalities::flags::testing::walk;

fn loaded(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, String> {
    let mut loaded = Loaded::default();
    loaded.definition.environment = Environment::of(environment);
    match text.trim_start().starts_with('{') {
        true => loaded.definition.add_json(text)?,
        false => loaded.definition.add_hcl(text)?,
    }
    loaded.evaluate()?;
    Ok(loaded)
}

fn print(
    text: &str,
    targets: &[&str],
    flags: &[&str],
    environment: &[(&str, &str)],
) -> Result<Value, String> {
    let loaded = loaded(text, environment)?;
    let words: Vec<String> = flags.iter().map(|word| (*word).to_owned()).collect();
    let given = flags::read(BAKE, &words, Operands::Anywhere).map_err(|error| error.to_string())?;
    let overrides = overrides(&given, &Environment::of(environment))?;
    let targets: Vec<String> = targets.iter().map(|target| (*target).to_owned()).collect();
    let resolved = resolve(&loaded, &targets, &overrides)?;
    Ok(serde_json::from_str(&printed(&resolved)).unwrap())
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
fn parents_say_only_what_they_say() {
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
    let notes = loaded(text, &[]).unwrap().notes;
    assert_eq!(notes, ["target `app`: there is no attribute `colour`: it changes nothing"]);
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
fn files_say_what_they_are_written_in() {
    for (file, text, kind) in [
        ("a.yml", "", FileKind::Compose),
        ("a.YAML", "", FileKind::Compose),
        ("a.json", "{\"services\": {}}", FileKind::Json),
        ("a.hcl", "services: {}", FileKind::Hcl),
        ("-", "services:\n  a: {build: .}\n", FileKind::Compose),
        ("-", "x: 1\n---\nservices: {}\n", FileKind::Compose),
        ("file", "{\"target\": {}}", FileKind::Json),
        ("file", "target \"a\" {}", FileKind::Hcl),
        ("file", "services = 1", FileKind::Hcl),
    ] {
        assert_eq!(kind_of(file, text), kind, "{file}: {text}");
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
        ("target \"a\" {}", &["a"], &["--policy=filename=x"], "`filename=x` is for the `policy`"),
        ("target \"a\" {}", &["a"], &["--policy=disabled=true,strict=true"], "no other option"),
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
    let targets = listed("targets", &loaded).unwrap();
    assert!(targets.starts_with("TARGET") && targets.contains("tools-1-2"), "{targets}");
    let variables = listed("type=variables,format=json", &loaded).unwrap();
    let variables: Value = serde_json::from_str(&variables).unwrap();
    assert_eq!(variables[1], json!({"name": "TAG", "value": "latest", "description": ""}));
    assert!(listed("x", &loaded).is_err());
}

#[test]
fn every_flag_is_honoured_or_refused_by_name() {
    walk(BAKE, |words| {
        let given = flags::read(BAKE, words, Operands::Anywhere)?;
        overrides(&given, &Environment::default()).map_err(FlagError::Usage)?;
        // The others are read where files are.
        for name in ["file", "var", "list", "progress", "metadata-file", "allow"] {
            given.all(name);
        }
        given.is_on("print", false);
        given.done().map(|()| given.notes)
    });
}
