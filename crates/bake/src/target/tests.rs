use super::*;

fn target(pairs: &[(&str, Value)]) -> Target {
    let mut target = Target::default();
    for (name, value) in pairs {
        target.set(name, value.clone()).unwrap();
    }
    target
}

#[test]
fn targets_are_merged_as_buildx_does() {
    let mut base = target(&[
        ("tags", json!(["a"])),
        ("args", json!({"A": "1", "B": 2})),
        ("cache-from", json!(["r/a"])),
        ("output", json!(["type=docker"])),
    ]);
    base.merge(&target(&[
        ("tags", json!(["b", "", "b"])),
        ("args", json!({"A": null, "B": "3", "C": null})),
        ("cache-from", json!(["type=local,src=x", "type=local,src=x"])),
        ("output", json!([{"type": "image", "push": true}])),
    ]))
    .unwrap();
    assert_eq!(
        base.printed(),
        json!({
            "args": {"A": "1", "B": "3"}, "tags": ["b"],
            "cache-from": [{"type": "registry", "ref": "r/a"}, {"type": "local", "src": "x"}],
            "output": [{"type": "image", "push": "true"}],
        })
    );
    let keys: Vec<String> = base.printed().as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["args", "tags", "cache-from", "output"]);
}

#[test]
fn what_is_wrong_is_named() {
    for (name, value, word) in [
        ("colour", json!("red"), "there is no attribute `colour`"),
        ("tags", json!("a"), "`tags`: `\"a\"` is no list"),
        ("args", json!([1]), "is no map"),
        ("secret", json!(["x"]), "not NAME=VALUE"),
        ("pull", json!("perhaps"), "neither true nor false"),
        ("policy", json!(["x"]), "not NAME=VALUE"),
    ] {
        let error = Target::default().set(name, value).unwrap_err().to_string();
        assert!(error.contains(word), "{name}: {error}");
    }
}
