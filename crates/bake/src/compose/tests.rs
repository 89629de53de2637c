use std::io;

use super::*;

/// Files in memory, by their paths.
type Memory = BTreeMap<PathBuf, String>;

impl ProjectFiles for Memory {
    fn read(&self, path: &Path) -> io::Result<Option<String>> {
        Ok(self.get(path).cloned())
    }
}

fn memory(files: &[(&str, &str)]) -> Memory {
    files.iter().map(|(name, text)| (name.into(), (*text).to_owned())).collect()
}

fn project(files: &[&str], environment: &[(&str, &str)]) -> Result<Targets, String> {
    project_with(files, environment, &Memory::new())
}

fn project_with(
    files: &[&str],
    environment: &[(&str, &str)],
    others: &Memory,
) -> Result<Targets, String> {
    let environment = environment.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let read = || {
        let mut project = Project::new(&environment, &BTreeMap::new(), others)?;
        for (at, text) in files.iter().enumerate() {
            project.add(&format!("{at}.yaml"), text)?;
        }
        project.targets()
    };
    read().map_err(|error: BakeError| error.to_string())
}

fn targets(text: &str, environment: &[(&str, &str)]) -> Result<Vec<(String, Target)>, String> {
    project(&[text], environment).map(|all| all.targets)
}

/// A target as it is printed.
fn printed(files: &[&str], name: &str, environment: &[(&str, &str)]) -> Value {
    printed_with(files, name, environment, &Memory::new())
}

fn printed_with(
    files: &[&str],
    name: &str,
    environment: &[(&str, &str)],
    others: &Memory,
) -> Value {
    let all = project_with(files, environment, others);
    let all = all.unwrap_or_else(|error| panic!("{files:?}: {error}"));
    let target = all.targets.iter().find(|(own, _)| own == name);
    target.unwrap_or_else(|| panic!("no `{name}` of {files:?}")).1.printed()
}

#[test]
fn files_and_services_are_put_together() {
    let one = "
services:
  base: {build: {context: ./b/../base/, args: [A=1, E, D, S, NONE], tags: [one], shm_size: 128m}, image: x}
  app: {extends: base, environment: [S=s], image: app, build: {args: {A: 2}}}
  plain: {image: redis}
";
    let two =
        "services: {base: {build: {tags: [two], privileged: true, provenance: false, sbom: true}}}";
    let environment = [("E", "e"), ("D", "d d")];
    let targets = project(&[one, two], &environment).unwrap().targets;
    let names: Vec<&str> = targets.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["app", "base"]);
    assert_eq!(
        targets[0].1.printed(),
        json!({
            "context": "base", "args": {"A": "2", "E": "e", "D": "d d", "S": "s"},
            "tags": ["one"], "shm-size": "128MiB",
        })
    );
    let base = targets[1].1.printed();
    assert_eq!(base["tags"], json!(["one", "two"]));
    assert_eq!(base["attest"], json!([{"type": "provenance", "disabled": true}, {"type": "sbom"}]));
}

#[test]
fn files_include_and_extend_others() {
    let mut others = memory(&[
        ("/f/in/compose.yaml", "services: {inner: {build: {args: {A: '${V}', B: '${W:-x}'}}}}"),
        ("/f/in/.env", "V=inner\nW=$V\n"),
        ("/f/base/b.yaml", "services: {base: {build: {context: ./src, tags: [b]}, image: b}}"),
        ("/f/base/c.yaml", "services: {mid: {extends: {file: b.yaml, service: base}}}"),
        (
            "/f/main.yaml",
            "include: [in/compose.yaml]\nservices:\n  app: {extends: {file: base/c.yaml, service: mid}, build: {tags: !override [own]}}\n  inner: {build: {args: {C: 1}}}\n",
        ),
    ]);
    let include = "include: [/f/main.yaml]\nservices: {}";
    assert_eq!(
        printed_with(&[include], "app", &[], &others),
        json!({"context": "/f/base/src", "tags": ["own"]})
    );
    assert_eq!(
        printed_with(&[include], "inner", &[("W", "w")], &others),
        json!({"context": "/f/in", "args": {"A": "inner", "B": "w", "C": "1"}})
    );
    others.insert("/f/in/compose.yaml".into(), "include: [/f/main.yaml]".into());
    let error = project_with(&[include], &[], &others).unwrap_err();
    assert!(error.contains("includes itself"), "{error}");
}

#[test]
fn services_are_targets() {
    let text = "
services:
  db: {image: postgres}
  web.app:
    image: r/web:${TAG:-latest}
    build:
      context: ./web
      dockerfile: app.Dockerfile
      args: {A: 1, B: null}
      labels: [\"a=b\"]
      target: run
      cache_from: [r/web:cache, 'type=local,src=x']
      secrets: [token]
      additional_contexts: [base=service:base, lib=../lib]
      extra_hosts: ['db:10.0.0.1', 'db=10.0.0.2']
      ulimits: {nofile: {soft: 1, hard: 2}}
      x-bake: {platforms: linux/amd64 linux/arm64, output: 'type=docker', tags: [r/web:x]}
  base: {build: ./base}
secrets:
  token: {environment: TOKEN}
";
    let targets = targets(text, &[("TAG", "")]).unwrap();
    let names: Vec<&str> = targets.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["base", "web_app"]);
    assert_eq!(
        targets[1].1.printed(),
        json!({
            "context": "web", "contexts": {"base": "target:base", "lib": "../lib"},
            "dockerfile": "app.Dockerfile", "args": {"A": "1"}, "labels": {"a": "b"},
            "tags": ["r/web:x"],
            "cache-from": [{"type": "registry", "ref": "r/web:cache"}, {"type": "local", "src": "x"}],
            "target": "run", "secret": [{"id": "token", "env": "TOKEN"}],
            "platforms": ["linux/amd64", "linux/arm64"], "output": [{"type": "docker"}],
            "ulimits": ["nofile=1:2"], "extra-hosts": {"db": "10.0.0.1,10.0.0.2"},
        })
    );
}

#[test]
fn projects_have_a_name() {
    let tag = |files: &[&str], environment: &[(&str, &str)]| {
        printed(files, "a", environment)["tags"][0].as_str().unwrap().to_owned()
    };
    let service = "services: {a: {build: ., image: \"${COMPOSE_PROJECT_NAME}-x\"}}\n";
    let named = format!("name: Pro-${{X:-j}}\n{service}");
    let environment = [("COMPOSE_PROJECT_NAME", "env")];
    assert_eq!(tag(&[service], &[]), "bake-x");
    assert_eq!(tag(&[service], &environment), "env-x");
    assert_eq!(tag(&[&named], &environment), "Pro-j-x");
    assert_eq!(tag(&[&named, "name: last\nservices: {}\n"], &[]), "last-x");
    assert_eq!(tag(&[&format!("{service}---\nname: two\n")], &[]), "two-x");
}

#[test]
fn variables_without_a_value_are_noted_once() {
    let text = "services: {a: {build: ., image: \"x:$A-${A}-${B:-b}-$$C-$5\"}}";
    let all = project(&[text, text], &[]).unwrap();
    assert_eq!(all.notes, ["The \"A\" variable is not set. Defaulting to a blank string."]);
    assert_eq!(all.targets[0].1.printed()["tags"][0], "x:--b-$C-$5");
}

#[test]
fn documents_of_a_file_are_put_together() {
    let text = "services: {a: {build: {context: ., tags: [x]}}}\n---\nservices: {b: {build: ./b}, a: {build: {tags: [y]}}}\n";
    assert_eq!(printed(&[text], "a", &[])["tags"], json!(["x", "y"]));
    assert_eq!(printed(&[text], "b", &[])["context"], "b");
    let error = project(&["services: {a: {build: .}}\n---\n- x\n"], &[]).unwrap_err();
    assert!(error.contains("no map of services"), "{error}");
}

#[test]
fn later_files_can_clear_what_earlier_ones_say() {
    let one = "services: {a: {image: x, build: {context: ., tags: [x], args: {A: 1, B: 2}, target: t}, ports: [\"80:80\"]}}";
    for (two, expected) in [
        (
            "a: {build: {tags: !override [y]}}",
            json!({"tags": ["y"], "target": "t", "args": {"A": "1", "B": "2"}}),
        ),
        (
            "a: {build: {tags: !reset null}}",
            json!({"tags": ["x"], "target": "t", "args": {"A": "1", "B": "2"}}),
        ),
        (
            "a: {build: {args: !override {C: 3}}}",
            json!({"tags": ["x"], "target": "t", "args": {"C": "3"}}),
        ),
        (
            "a: {build: {args: {A: !reset }, target: !reset x}}",
            json!({"tags": ["x"], "args": {"B": "2"}}),
        ),
        (
            "a: {build: !override {target: n}, ports: !override [], command: !reset null}",
            json!({"tags": ["x"], "target": "n"}),
        ),
    ] {
        let mut printed = printed(&[one, &format!("services: {{{two}}}")], "a", &[]);
        printed.as_object_mut().unwrap().remove("context");
        assert_eq!(printed, expected, "{two}");
    }
    let gone = project(&[one, "services: {a: !reset null, b: {build: .}}"], &[]).unwrap().targets;
    assert_eq!(gone.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn arguments_without_a_value_have_that_of_files_with_variables() {
    let others = memory(&[("a.env", "A=file\nB=$A-$P-$S\nC\n"), ("b.env", "A=later\n")]);
    let text = "services: {a: {build: {context: ., args: [A, B, C, S, P]}, environment: [S=s, P], env_file: [a.env, {path: b.env}, {path: none.env, required: false}]}}";
    assert_eq!(
        printed_with(&[text], "a", &[("P", "p"), ("C", "c")], &others)["args"],
        json!({"A": "later", "B": "file-p-s", "C": "c", "S": "s", "P": "p"})
    );
    let missing = "services: {a: {build: {context: ., args: [A]}, env_file: none.env}}";
    assert!(project(&[missing], &[]).unwrap_err().contains("none.env"));
}

#[test]
fn what_is_wrong_is_named() {
    for (text, word) in [
        ("services: {a: {build: {frob: 1}}}", "service `a`: `build.frob`"),
        ("services: {a: {command: x}}", "service `a`: it has neither `image` nor `build`"),
        ("services: {a: }", "service `a`: it has neither"),
        ("x: 1", "there are no `services`"),
        ("[1]", "no map of services"),
        ("services: [a]", "`services` is no map"),
        ("services: {a: {build: ., image: \"x:${A\"}}", "`services.a.image`: a `${`"),
        ("services: {a: {build: ., image: \"${A:?is needed}\"}}", "variable `A`: is needed"),
        (
            "services: {a: {build: {context: ., dockerfile: x, dockerfile_inline: y}}}",
            "exclude each other",
        ),
        (
            "services: {a: {build: {context: ., additional_contexts: [b=service:b]}}}",
            "the service `b`, which is not there",
        ),
        (
            "services: {a: {build: {context: ., additional_contexts: [b=service:b]}}, b: {image: x}}",
            "which is not built",
        ),
        ("services: {a: {build: {context: ., secrets: [s]}}}", "the secret `s` is not among"),
        ("services: {a: {build: .}}\nsecrets: {s: {}}", "`s` has neither `file` nor"),
        (
            "services: {a: {build: {context: ., secrets: [s]}}}\nsecrets: {s: {external: true}}",
            "`s` is external",
        ),
        ("services: {a: {build: {context: ., ssh: [x]}}}", "neither `default` nor"),
        ("services: {a: {extends: b, build: .}}", "it extends `b`, which is not there"),
        ("services: {a: {extends: b}, b: {extends: a}}", "nested too deep"),
        ("services: {a: {build: {context: ., args: {A: x, A: y}}}}", "the key `A` is there twice"),
        ("services: {a: {build: {context: ., args: {A: [1]}}}}", "`A` is no text"),
        ("include: [none.yaml]", "none.yaml"),
        (
            "services: {a: {build: {context: ., x-bake: {frob: 1}}}}",
            "`x-bake`: there is no attribute `frob`",
        ),
    ] {
        let error = project(&[text], &[]).unwrap_err();
        assert!(error.contains(word), "{text}: {error}");
    }
}

#[test]
fn the_project_has_the_variables_of_its_folder() {
    let text = "services: {a: {build: ., image: \"x:$A\"}}";
    let others = memory(&[(".env", "A=1\n")]);
    assert_eq!(printed_with(&[text], "a", &[], &others)["tags"][0], "x:1");
    let off = [("COMPOSE_DISABLE_ENV_FILE", "1")];
    assert_eq!(printed_with(&[text], "a", &off, &others)["tags"][0], "x:");
    let wrong = memory(&[(".env", "A='hush\n")]);
    let error = project_with(&[text], &[], &wrong).unwrap_err();
    assert_eq!(error, "reading `.env`: line 1: a quote does not end");
}

#[test]
fn merging_ends() {
    let items: String = (0..20_000).map(|at| format!("x{at}, ")).collect();
    let file = format!("services: {{a: {{build: {{context: ., tags: [{items}]}}}}}}");
    assert!(project(&[&file], &[]).unwrap_err().contains("the list is too long"));
    assert!(project(&[&file, &file], &[]).unwrap_err().contains("too many steps"));
    // A file that is included often is read once, and merged each time.
    let many = format!("include: [{}]\nservices: {{}}", "/f, ".repeat(900));
    let others = memory(&[("/f", &file)]);
    assert!(project_with(&[&many], &[], &others).unwrap_err().contains("too many steps"));
    let services: String =
        (0..5000).map(|at| format!("s{at}: {{build: ., env_file: /e}}, ")).collect();
    let others = memory(&[("/e", &"# comment\n".repeat(5000))]);
    let services = format!("services: {{{services}}}").replace("build: .", "build: {args: [A]}");
    let error = project_with(&[&services], &[], &others).unwrap_err();
    assert!(error.contains("too much text"), "{error}");
}
