//! The files that `bake` finds, and the names of its results.

use fixtures::{Access, Kiln, Run};
use serde_json::Value;
use std::path::Path;

use crate::{context_of, kiln, registry, text};

fn bake(kiln: &Kiln, folder: &Path, line: &[&str], input: &[u8]) -> Run {
    let mut command = kiln.command(["bake"].iter().chain(line));
    command.current_dir(folder).env("OUT", "outside");
    fixtures::kiln::finish(command, input)
}

fn printed(kiln: &Kiln, folder: &Path, line: &[&str], input: &[u8]) -> Value {
    let line = [line, &["--print"]].concat();
    serde_json::from_str(&bake(kiln, folder, &line, input).expect_ok().stdout).unwrap()
}

#[test]
fn files_of_this_folder_have_several_names() {
    let kiln = kiln();
    let folder = context_of(&[
        ("docker-bake.hcl", "target \"default\" {\n tags = [\"x\"]\n}\n"),
        ("sub/meta.json", "{\"target\": {\"default\": {\"labels\": {\"l\": \"1\"}}}}"),
        ("plain", "services: {a: {build: {context: cwd://x, additional_contexts: [b=cwd://y]}}}"),
    ]);
    let own = printed(&kiln, folder.path(), &["-f", "docker-bake.hcl", "-f", "sub/meta.json"], b"");
    let here = ["-f", "cwd://docker-bake.hcl", "-f", "cwd://sub/meta.json"];
    assert_eq!(printed(&kiln, folder.path(), &here, b""), own);
    assert_eq!(own["target"]["default"]["labels"]["l"], "1");
    let mut command = kiln.command(["bake", "--print"]);
    command.current_dir(folder.path());
    command.env("BUILDX_BAKE_FILE", "cwd://docker-bake.hcl;sub/meta.json");
    command.env("BUILDX_BAKE_PATH_SEPARATOR", ";");
    let of_variable = fixtures::kiln::finish(command, b"").expect_ok().stdout;
    assert_eq!(serde_json::from_str::<Value>(&of_variable).unwrap(), own);

    // The format of standard input, or of a file without a known name, is detected from its text.
    for (input, name) in [
        (&b"services: {b: {build: .}}"[..], "b"),
        (b"{\"services\": {\"c\": {\"build\": \".\"}}}", "c"),
        (b"{\"target\": {\"d\": {}}}", "d"),
        (b"target \"e\" {}\n", "e"),
    ] {
        let all = printed(&kiln, folder.path(), &["-f", "-", name], input);
        assert_eq!(all["target"][name]["context"], ".", "{name}");
    }
    let plain = printed(&kiln, folder.path(), &["-f", "plain"], b"");
    assert_eq!(plain["target"]["a"]["contexts"]["b"], "cwd://y");

    for (line, word) in [
        (&["-f", "https://example.com/x.hcl"][..], "clone the repository"),
        (&["-f", "cwd://nope.hcl"], "nope.hcl"),
        (&["--print", "--list=targets"], "exclude each other"),
    ] {
        let run = bake(&kiln, folder.path(), line, b"");
        assert!(run.refused() && run.stderr.contains(word), "{line:?}: {}", run.stderr);
        assert!(run.stdout.is_empty(), "{line:?}: {}", run.stdout);
    }
}

#[test]
fn compose_files_see_the_variables_of_this_folder() {
    let kiln = kiln();
    let folder = context_of(&[
        (".env", "A=${B:-b}-x\nOUT=own\nMANY=\"one\\n\n two\"\n"),
        (
            "compose.yaml",
            "name: shop\nservices:\n  web:\n    image: ${COMPOSE_PROJECT_NAME}:${A}\n    build:\n      context: .\n      args: [A, OUT, MANY]\n    healthcheck:\n      test: [\n        \"CMD\",\n      ]\n  none: {image: x-$GONE}\n",
        ),
        ("over.yaml", "services:\n  web: {build: {args: !override [OUT]}, ports: !reset null}\n"),
    ]);
    let run = bake(&kiln, folder.path(), &["--print"], b"").expect_ok();
    assert!(run.stderr.contains("The \"GONE\" variable is not set"), "{}", run.stderr);
    let all: Value = serde_json::from_str(&run.stdout).unwrap();
    let web = &all["target"]["web"];
    assert_eq!(web["tags"][0], "shop:b-x");
    assert_eq!(
        web["args"],
        serde_json::json!({"A": "b-x", "OUT": "outside", "MANY": "one\n\n two"})
    );
    let line = ["-f", "compose.yaml", "-f", "over.yaml", "--var", "OUT=given"];
    let over = printed(&kiln, folder.path(), &line, b"");
    assert_eq!(over["target"]["web"]["args"], serde_json::json!({"OUT": "given"}));
    std::fs::write(folder.path().join(".env"), "A='secret\n").unwrap();
    let run = bake(&kiln, folder.path(), &["--print"], b"");
    assert!(run.refused() && run.stderr.contains("line 1: a quote does not end"), "{}", run.stderr);
    assert!(!run.stderr.contains("secret"), "{}", run.stderr);
}

#[test]
fn results_have_the_names_that_were_asked_for() {
    let Some(registry) = registry("bake_names", Access::Open) else { return };
    let (kiln, host) = (kiln(), registry.host());
    let file = format!(
        "target \"base\" {{\n dockerfile-inline = \"FROM scratch\\nLABEL a=b\"\n}}\n\
         target \"app\" {{\n dockerfile-inline = \"FROM base\"\n contexts = {{ base = \"target:base\" }}\n \
         output = [\"type=image,name={host}/app,push=true,push-by-digest=true,name-canonical=true\"]\n}}\n"
    );
    let folder = context_of(&[("docker-bake.hcl", &file)]);
    let metadata = folder.path().join("m.json");
    bake(&kiln, folder.path(), &["app", "--metadata-file", &text(&metadata)], b"").expect_ok();
    let all: Value = serde_json::from_slice(&std::fs::read(metadata).unwrap()).unwrap();
    assert_eq!(all["app"]["image.name"], format!("{host}/app"));
    assert!(all["app"]["containerimage.digest"].as_str().unwrap().starts_with("sha256:"));
    assert!(all["base"].get("image.name").is_none(), "{all}");
    assert!(!all.to_string().contains("made.kiln.invalid"), "{all}");
}

/// Standard input is read once kiln has started itself again, which it does for ordinary users.
#[test]
fn a_definition_on_standard_input_is_built() {
    let kiln = kiln();
    let folder = context_of(&[("a.txt", "a\n")]);
    let definition = r#"{"target": {"default": {
        "dockerfile-inline": "FROM scratch\nCOPY a.txt /\n", "output": ["type=local,dest=out"]
    }}}"#;
    bake(&kiln, folder.path(), &["-f", "-"], definition.as_bytes()).expect_ok();
    assert_eq!(std::fs::read_to_string(folder.path().join("out/a.txt")).unwrap(), "a\n");
}
