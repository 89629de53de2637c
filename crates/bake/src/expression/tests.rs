use proptest::prelude::*;
use serde_json::json;

use super::*;

/// No names at all.
#[derive(Default)]
struct Nothing(Budget);

impl Names for Nothing {
    fn variable(&self, _: &str) -> Result<Option<Value>, BakeError> {
        Ok(None)
    }

    fn function(&self, _: &str) -> Option<&Function> {
        None
    }

    fn attribute(&self, _: &str, _: &str, name: &str) -> Result<Value, BakeError> {
        Err(BakeError::Invalid(format!("there is no `{name}`")))
    }

    fn home(&self) -> Option<String> {
        None
    }

    fn budget(&self) -> &Budget {
        &self.0
    }
}

fn value(expression: &str) -> Result<Value, BakeError> {
    let expression: Expression = expression.parse()?;
    let locals = vec![("x".into(), json!("ex")), ("list".into(), json!(["a", "b"]))];
    Scope::new(&Nothing::default(), locals).evaluate(&expression)
}

#[test]
fn expressions() {
    for (expression, expected) in [
        ("1 + 2 * 3", json!(7)),
        ("7 / 2", json!(3.5)),
        ("x == \"ex\" && !false ? \"y\" : \"n\"", json!("y")),
        ("\"a-${x}-${1 + 1}\"", json!("a-ex-2")),
        ("\"${list}\"", json!(["a", "b"])),
        ("list[1]", json!("b")),
        ("{a = 1, \"b\" = list}.b[0]", json!("a")),
        ("[for i, v in list : \"${i}${v}\" if v != \"a\"]", json!(["1b"])),
        ("{for v in list : v => upper(v)}", json!({"a": "A", "b": "B"})),
        ("\"%{ for v in list }<${v}>%{ endfor }\"", json!("<a><b>")),
        ("\"%{ if x == \"ex\" }yes%{ else }no%{ endif }\"", json!("yes")),
        ("[{n = 1}, {n = 2}][*].n", json!([1, 2])),
        ("try(nope, \"else\")", json!("else")),
        ("can(list[9])", json!(false)),
        ("join(\"-\", [\"a\", \"b\"])", json!("a-b")),
        ("max([1, 3, 2]...)", json!(3)),
    ] {
        assert_eq!(value(expression).unwrap(), expected, "{expression}");
    }
    for (expression, word) in [
        ("nope", "no variable `nope`"),
        ("1 / 0", "by zero"),
        ("frob(1)", "`frob`: "),
        ("\"a${list}\"", "is no text"),
        ("list[7]", "7"),
    ] {
        let error = value(expression).unwrap_err().to_string();
        assert!(error.contains(word), "{expression}: {error}");
    }
}

#[test]
fn evaluation_ends() {
    let growing = "join(\"\", [for a in [1, 2, 3, 4] : ".repeat(14) + "x" + &"])".repeat(14);
    assert!(value(&growing).unwrap_err().to_string().contains("too "));
    let splats = format!("x{}", "[*]".repeat(100_000));
    assert!(value(&splats).unwrap_err().to_string().contains("nested too deep"));
    let wide = "range(10000)";
    let nested = format!("[for a in {wide} : [for b in {wide} : {wide}]]");
    assert!(value(&nested).unwrap_err().to_string().contains("too many steps"));
}

proptest! {
    #[test]
    fn any_expression_is_evaluated_or_refused(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "x", "list", "1", "-", "+", "(", ")", "[", "]", "[*]", ".a", "{", "}", "a = 1", ",", "?",
                ":", "==", "!", "for v in list : v", "\"a\"", "\"${x}\"", "\"%{ if true }b%{ endif }\"",
                "upper(", "join(", "range(", "format(\"%5d\", ", "substr(", "1e300", "null", "...",
            ]),
            0..16,
        ),
    ) {
        let _ = value(&words.join(" "));
    }
}
