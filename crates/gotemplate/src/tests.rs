use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{Template, TemplateError};

fn value() -> Value {
    json!({
        "Id": "sha256:aa", "RepoTags": ["a:1", "b:2"], "Empty": [], "Size": 12,
        "Config": {"Env": ["A=1"], "Labels": {"org.x/y": "z"}, "User": ""},
    })
}

fn render(template: &str) -> Result<String, TemplateError> {
    Template::parse(template)?.render(&value())
}

#[test]
fn what_scripts_use() {
    for (template, expected) in [
        ("{{.Id}}", "sha256:aa"),
        ("{{ .Id }}\\t{{.Size}}", "sha256:aa\t12"),
        ("{{index .RepoTags 1}}", "b:2"),
        ("{{json .Config.Env}}", "[\"A=1\"]"),
        ("{{.Config.Env | json}}", "[\"A=1\"]"),
        ("{{range .RepoTags}}{{.}},{{end}}", "a:1,b:2,"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{if .Config.User}}u{{else}}root{{end}}", "root"),
        ("{{with .Config}}{{index .Labels \"org.x/y\"}}{{end}}", "z"),
        ("{{join .RepoTags \" \"}}", "a:1 b:2"),
        ("{{index (index .RepoTags 0 | split \":\") 0}}", ":"),
        ("{{(index .RepoTags 0)}}", "a:1"),
        ("{{if eq .Size 12}}{{printf \"%s-%d\" .Id .Size}}{{end}}", "sha256:aa-12"),
        ("{{.RepoTags}}", "[a:1 b:2]"),
        ("a {{- .Size -}} b", "a12b"),
        ("{{$.Id}}{{len .RepoTags}}", "sha256:aa2"),
        ("{{(index .RepoTags 0) | upper}}", "A:1"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}", "org.x/y=z "),
        ("{{range $i,$tag:=.RepoTags}}{{if $i}}, {{end}}{{$tag}}{{end}}", "a:1, b:2"),
        ("{{range $tag := .RepoTags}}{{$tag}}{{$.Size}} {{end}}", "a:112 b:212 "),
        ("{{$size := .Size}}{{with .Config}}{{$size}}{{$size = .User}}{{end}}[{{$size}}]", "12[]"),
        ("{{with $c := .Config}}{{len $c.Env}}{{end}}", "1"),
        ("{{if .Config.User}}u{{else if eq .Size 12}}twelve{{else}}-{{end}}", "twelve"),
        ("{{range .RepoTags}}{{.}}{{\"\\n\"}}{{end}}", "a:1\nb:2\n"),
        ("{{.Config.Labels.nope}}{{if .Config.Labels.nope}}x{{end}}", "<no value>"),
        ("{{.ID}} {{.config.labels}}", "sha256:aa map[org.x/y:z]"),
        ("{{printf \"%-5s|%5s|%.4s\" \"a\" \"b\" .Id}}", "a    |    b|sha2"),
        ("{{pad \"a\" 1 2}}|", " a  |"),
    ] {
        assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (template, word) in [
        ("{{.Nope}}", "there is no `.Nope`; there are Id"),
        ("{{.Id", "has no `}}`"),
        ("{{range .RepoTags}}", "has no `{{end}}`"),
        ("{{end}}", "has no beginning"),
        ("{{index .RepoTags 7}}", "no item 7"),
        ("{{frob .Id}}", "no function `frob`"),
        ("{{$x}}", "no variable `$x`"),
        ("{{with $x := .Id}}{{end}}{{$x}}", "no variable `$x`"),
        ("{{$x, $y := .Config}}", "only `range`"),
        ("{{if .Id}}a{{else}}b{{else}}c{{end}}", "behind `else`"),
        ("{{template \"x\"}}", "`{{template}}` is not supported"),
        ("{{.Id)}}", "`)` is not expected"),
        ("{{printf \"%z\" .Id}}", "`%z` is not supported"),
        ("{{(.Id}}", "not closed"),
    ] {
        let error = render(template).unwrap_err().to_string();
        assert!(error.contains(word), "{template}: {error}");
    }
}

#[test]
fn rendering_ends() {
    let nested = "{{range $.RepoTags}}".repeat(30) + "x" + &"{{end}}".repeat(30);
    assert_eq!(render(&nested), Err(TemplateError::TooManySteps));
    let doubled = format!("{{{{$x := .Id}}}}{}", "{{$x = printf \"%s%s\" $x $x}}".repeat(64));
    assert_eq!(render(&doubled), Err(TemplateError::TooLarge));
    let joined = "{{$x := printf \"%60000s\" .Id}}{{$y := join (split $x \"\") $x}}";
    assert_eq!(render(joined), Err(TemplateError::TooLarge));
    let piped = format!("{{{{.Id{}}}}}", " | upper".repeat(100_000));
    assert_eq!(render(&piped), Err(TemplateError::TooDeep));
    for (open, close) in [("{{(", ")}}"), ("{{if .Id}}", "{{end}}")] {
        assert!(render(&(open.repeat(1000) + &close.repeat(1000))).is_err());
    }
}

proptest! {
    #[test]
    fn any_text_is_rendered_or_refused(text in "\\PC{0,80}") {
        let _ = render(&text);
    }

    #[test]
    fn any_action_is_rendered_or_refused(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "{{", "}}", "{{-", "-}}", "range", "if", "with", "else", "end", "$x", ":=", "=", ",",
                "(", ")", "|", ".", ".Id", ".RepoTags", "$", "json", "index", "printf", "\"%5s\"",
                "join", "split", "len", "-1", "7", "`", "\"", "/*", "*/", "é",
            ]),
            0..24,
        ),
    ) {
        let _ = render(&words.join(" "));
        let _ = render(&format!("{{{{{}}}}}", words.join(" ")));
    }
}
