use serde_json::json;

use super::*;

fn value(text: &str, name: &str, environment: &[(&str, &str)]) -> Result<Value, String> {
    let environment = environment.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let mut definition = Definition { environment, ..Definition::default() };
    let evaluated = definition.add_hcl(text).and_then(|()| {
        let expression: Expression = name.parse()?;
        definition.evaluate(&expression, &[])
    });
    evaluated.map_err(|error| error.to_string())
}

#[test]
fn variables_come_from_several_places() {
    let text = "
        variable \"TAG\" { default = \"latest\" }
        variable \"COUNT\" { default = 1 }
        variable \"ON\" { default = false }
        variable \"LIST\" { default = [\"a\"] }
        variable \"NAME\" { default = \"r/${TAG}-${double(COUNT)}\" }
        fixed = \"f\"
        function \"double\" {
          params = [n]
          result = n * 2
        }";
    for (name, environment, expected) in [
        ("NAME", &[][..], json!("r/latest-2")),
        ("NAME", &[("TAG", "v1"), ("COUNT", "4")], json!("r/v1-8")),
        ("ON", &[("ON", "1")], json!(true)),
        ("LIST", &[("LIST", "x,y")], json!(["x", "y"])),
        ("LIST", &[("LIST_JSON", "[\"z\"]")], json!(["z"])),
        ("fixed", &[("fixed", "other")], json!("f")),
        ("TAG", &[("TAG", "v1"), ("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP", "1")], json!("latest")),
    ] {
        assert_eq!(value(text, name, environment), Ok(expected), "{name} {environment:?}");
    }
    assert!(value(text, "COUNT", &[("COUNT", "x")]).unwrap_err().contains("is no number"));
    let own = "variable \"A\" { default = B }\nvariable \"B\" { default = A }";
    assert!(value(own, "A", &[]).unwrap_err().contains("stands on itself"));
    let checked = "variable \"A\" {\n default = \"\"\n validation {\n condition = A != \"\"\n error_message = \"A is needed\"\n }\n}";
    assert_eq!(value(checked, "A", &[]).unwrap_err(), "variable `A`: A is needed");
    assert_eq!(value(checked, "A", &[("A", "x")]), Ok(json!("x")));
    let forever = "function \"f\" {\n params = [x]\n result = f(x)\n}";
    assert!(value(forever, "f(1)", &[]).unwrap_err().contains("calls itself"));
    assert!(value("network \"x\" {}", "1", &[]).unwrap_err().contains("no blocks `network`"));
}

#[test]
fn evaluation_ends() {
    // Each variable is twice as long as the one before it.
    let mut doubling = "a0 = \"xxxxxxxxxxxxxxxx\"\n".to_owned();
    let mut chain = "b0 = 1\n".to_owned();
    for at in 1..64 {
        let before = at - 1;
        doubling.push_str(&format!("a{at} = \"${{a{before}}}${{a{before}}}\"\n"));
    }
    for at in 1..1000 {
        chain.push_str(&format!("b{at} = b{}\n", at - 1));
    }
    assert!(value(&doubling, "a63", &[]).unwrap_err().contains("too long"));
    assert!(value(&chain, "b999", &[]).unwrap_err().contains("nested too deep"));
    for (open, close) in [("(", ")"), ("[", "]"), ("!", ""), ("{a=", "}")] {
        let deep = format!("a = {}1{}", open.repeat(100_000), close.repeat(100_000));
        assert!(value(&deep, "a", &[]).unwrap_err().contains("nest"), "{open}");
    }
}
