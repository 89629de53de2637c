//! Go templates as docker's `--format` takes them, over JSON values: the part that scripts use.
//!
//! Fields, `index`, `json`, `join`, `range`, `if`, `with`, comparisons, `printf`. What else Go has
//! (variables, nested templates) is refused by name.

use serde_json::Value;

/// A template that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Node>);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Print(Expression),
    If(Expression, Vec<Node>, Vec<Node>),
    With(Expression, Vec<Node>, Vec<Node>),
    Range(Expression, Vec<Node>, Vec<Node>),
}

#[derive(Clone, Debug, PartialEq)]
enum Expression {
    /// `.A.B`, from the value at hand (or `$`, the whole).
    Path {
        from_top: bool,
        fields: Vec<String>,
    },
    /// `(…).A`.
    Field(Box<Expression>, Vec<String>),
    Literal(Value),
    Call(String, Vec<Expression>),
}

/// Nested deeper, a template is a mistake.
const DEEPEST: usize = 32;

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A sentence that names what is wrong or not known.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { pieces: pieces(text)?, at: 0 };
        let (nodes, end) = parser.nodes(0)?;
        match end {
            None => Ok(Self(nodes)),
            Some(word) => Err(format!("`{{{{{word}}}}}` has no beginning")),
        }
    }

    /// The text for a value.
    ///
    /// # Errors
    /// A sentence that names the field that is not there.
    pub fn render(&self, value: &Value) -> Result<String, String> {
        let mut out = String::new();
        write(&self.0, value, value, &mut out)?;
        Ok(out)
    }
}

enum Piece {
    Text(String),
    Action(String),
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    // Docker's command line turns these two into what they mean.
    let text = text.replace("\\t", "\t").replace("\\n", "\n");
    let mut rest = text.as_str();
    let mut trims = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, next) =
            after.split_once("}}").ok_or_else(|| format!("`{{{{{after}` has no `}}}}`"))?;
        let mut before = if trims { before.trim_start() } else { before };
        let mut action = action;
        if let Some(inner) = action.strip_prefix("- ") {
            (before, action) = (before.trim_end(), inner);
        }
        trims = action.ends_with(" -");
        let action = action.strip_suffix(" -").unwrap_or(action).trim();
        pieces.push(Piece::Text(before.into()));
        if !action.starts_with("/*") {
            pieces.push(Piece::Action(action.into()));
        }
        rest = next;
    }
    pieces.push(Piece::Text(if trims { rest.trim_start() } else { rest }.into()));
    Ok(pieces)
}

struct Parser {
    pieces: Vec<Piece>,
    at: usize,
}

impl Parser {
    /// Nodes up to `else` or `end`, and which it was.
    fn nodes(&mut self, depth: usize) -> Result<(Vec<Node>, Option<String>), String> {
        if depth > DEEPEST {
            return Err("it is nested too deep".into());
        }
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.get(self.at) {
            self.at += 1;
            let action = match piece {
                Piece::Text(text) => {
                    if !text.is_empty() {
                        nodes.push(Node::Text(text.clone()));
                    }
                    continue;
                }
                Piece::Action(action) => action.clone(),
            };
            let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((&action, ""));
            match word {
                "end" | "else" => return Ok((nodes, Some(action))),
                "if" | "with" | "range" => {
                    let condition = expression(rest)?;
                    let (body, end) = self.nodes(depth + 1)?;
                    let (other, end) = match end.as_deref() {
                        Some("else") => self.nodes(depth + 1)?,
                        _ => (Vec::new(), end),
                    };
                    match end.as_deref() {
                        Some("end") => {}
                        Some(other) => return Err(format!("`{{{{{other}}}}}` is not there yet")),
                        None => return Err(format!("`{{{{{action}}}}}` has no `{{{{end}}}}`")),
                    }
                    nodes.push(match word {
                        "if" => Node::If(condition, body, other),
                        "with" => Node::With(condition, body, other),
                        _ => Node::Range(condition, body, other),
                    });
                }
                "define" | "template" | "block" | "break" | "continue" => {
                    return Err(format!("`{{{{{word}}}}}` is not there yet"));
                }
                _ => nodes.push(Node::Print(expression(&action)?)),
            }
        }
        Ok((nodes, None))
    }
}

/// A pipeline: what comes before `|` is the last argument of what comes behind it.
fn expression(text: &str) -> Result<Expression, String> {
    let mut tokens = tokens(text)?;
    tokens.reverse();
    let found = pipeline(&mut tokens, 0)?;
    match tokens.pop() {
        None => Ok(found),
        Some(token) => Err(format!("`{text}`: `{token}` is not expected")),
    }
}

fn pipeline(tokens: &mut Vec<String>, depth: usize) -> Result<Expression, String> {
    if depth > DEEPEST {
        return Err("it is nested too deep".into());
    }
    let mut result: Option<Expression> = None;
    loop {
        let mut operands = Vec::new();
        while let Some(token) = tokens.last() {
            if token == "|" || token == ")" {
                break;
            }
            let token = tokens.pop().unwrap_or_default();
            let operand = operand(&token, tokens, depth)?;
            match operand {
                // A field right behind a bracket belongs to it.
                Expression::Path { from_top: false, fields }
                    if token.starts_with('.') && operands.last().is_some_and(is_bracket) =>
                {
                    let inner = operands.pop().map(|(inner, _)| inner);
                    let inner = inner.unwrap_or(Expression::Literal(Value::Null));
                    operands.push((Expression::Field(Box::new(inner), fields), false));
                }
                operand => operands.push((operand, token == "(")),
            }
        }
        let mut operands = operands.into_iter().map(|(operand, _)| operand);
        let first = operands.next().ok_or("it is empty")?;
        let mut rest: Vec<Expression> = operands.collect();
        rest.extend(result.take());
        let made = match first {
            Expression::Call(name, mut arguments) if arguments.is_empty() => {
                arguments.extend(rest);
                Expression::Call(name, arguments)
            }
            only if rest.is_empty() => only,
            _ => return Err("a value is followed by another; a function's name comes first".into()),
        };
        if tokens.last().is_some_and(|token| token == "|") {
            tokens.pop();
            result = Some(made);
            continue;
        }
        return Ok(made);
    }
}

fn is_bracket((_, is_bracket): &(Expression, bool)) -> bool {
    *is_bracket
}

fn operand(token: &str, tokens: &mut Vec<String>, depth: usize) -> Result<Expression, String> {
    let fields = |text: &str| {
        text.split('.').filter(|field| !field.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    match token.chars().next().unwrap_or(' ') {
        '(' => {
            let inner = pipeline(tokens, depth + 1)?;
            match tokens.pop().as_deref() {
                Some(")") => Ok(inner),
                _ => Err("a bracket is not closed".into()),
            }
        }
        '.' => Ok(Expression::Path { from_top: false, fields: fields(token) }),
        '$' if token == "$" || token.starts_with("$.") => {
            Ok(Expression::Path { from_top: true, fields: fields(&token[1..]) })
        }
        '$' => Err(format!("`{token}`: variables are not there yet")),
        '"' => serde_json::from_str(token)
            .map(Expression::Literal)
            .map_err(|_| format!("{token} is not a text")),
        '`' => Ok(Expression::Literal(token.trim_matches('`').into())),
        '0'..='9' | '-' => token
            .parse::<i64>()
            .map(|number| Expression::Literal(number.into()))
            .map_err(|_| format!("`{token}` is not a number")),
        _ => match token {
            "true" => Ok(Expression::Literal(true.into())),
            "false" => Ok(Expression::Literal(false.into())),
            "nil" => Ok(Expression::Literal(Value::Null)),
            name => Ok(Expression::Call(name.into(), Vec::new())),
        },
    }
}

fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' | ')' | '|' => 1,
            '"' => quoted(rest).ok_or_else(|| format!("{rest} has no end"))?,
            '`' => rest[1..]
                .find('`')
                .map(|end| end + 2)
                .ok_or_else(|| format!("{rest} has no end"))?,
            _ => {
                rest.find(|c: char| c.is_whitespace() || "()|\"`".contains(c)).unwrap_or(rest.len())
            }
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn write(nodes: &[Node], value: &Value, top: &Value, out: &mut String) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(expression) => out.push_str(&shown(&evaluate(expression, value, top)?)),
            Node::If(condition, body, other) => {
                let body = if truth(&evaluate(condition, value, top)?) { body } else { other };
                write(body, value, top, out)?;
            }
            Node::With(condition, body, other) => {
                let found = evaluate(condition, value, top)?;
                match truth(&found) {
                    true => write(body, &found, top, out)?,
                    false => write(other, value, top, out)?,
                }
            }
            Node::Range(list, body, other) => {
                let items: Vec<Value> = match evaluate(list, value, top)? {
                    Value::Array(items) => items,
                    Value::Object(map) => map.into_iter().map(|(_, item)| item).collect(),
                    Value::Null => Vec::new(),
                    other => {
                        return Err(format!("`range` over `{}`, which is no list", shown(&other)));
                    }
                };
                if items.is_empty() {
                    write(other, value, top, out)?;
                }
                for item in &items {
                    write(body, item, top, out)?;
                }
            }
        }
    }
    Ok(())
}

fn evaluate(expression: &Expression, value: &Value, top: &Value) -> Result<Value, String> {
    match expression {
        Expression::Literal(value) => Ok(value.clone()),
        Expression::Path { from_top, fields } => {
            follow(if *from_top { top } else { value }, fields)
        }
        Expression::Field(inner, fields) => follow(&evaluate(inner, value, top)?, fields),
        Expression::Call(name, arguments) => {
            let arguments: Vec<Value> = arguments
                .iter()
                .map(|argument| evaluate(argument, value, top))
                .collect::<Result<_, _>>()?;
            call(name, &arguments)
        }
    }
}

fn follow(value: &Value, fields: &[String]) -> Result<Value, String> {
    let mut value = value;
    for field in fields {
        value = match value {
            Value::Object(map) => match map.get(field) {
                Some(value) => value,
                None => {
                    let known: Vec<&str> = map.keys().map(String::as_str).collect();
                    return Err(format!("there is no `.{field}`; there are {}", known.join(", ")));
                }
            },
            Value::Null => return Ok(Value::Null),
            _ => return Err(format!("`.{field}`: what is before it has no fields")),
        };
    }
    Ok(value.clone())
}

fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let text = |index: usize| arguments.get(index).map(shown).unwrap_or_default();
    let both = |compare: fn(std::cmp::Ordering) -> bool| {
        let order = match (
            arguments.first().and_then(Value::as_f64),
            arguments.get(1).and_then(Value::as_f64),
        ) {
            (Some(one), Some(other)) => one.partial_cmp(&other).unwrap_or(std::cmp::Ordering::Less),
            _ => text(0).cmp(&text(1)),
        };
        Value::Bool(compare(order))
    };
    Ok(match name {
        "json" => serde_json::to_string(arguments.first().unwrap_or(&Value::Null))
            .unwrap_or_default()
            .into(),
        "index" => {
            let mut value = arguments.first().cloned().unwrap_or(Value::Null);
            for key in &arguments[1.min(arguments.len())..] {
                value = item(&value, key)?;
            }
            value
        }
        "len" => match arguments.first() {
            Some(Value::Array(items)) => items.len().into(),
            Some(Value::Object(map)) => map.len().into(),
            _ => text(0).len().into(),
        },
        "join" => match arguments.first() {
            Some(Value::Array(items)) => {
                items.iter().map(shown).collect::<Vec<_>>().join(&text(1)).into()
            }
            _ => return Err("`join` needs a list and a text".into()),
        },
        "split" => text(0).split(&text(1)).collect::<Vec<_>>().into(),
        "lower" => text(0).to_lowercase().into(),
        "upper" => text(0).to_uppercase().into(),
        "title" => {
            let text = text(0);
            let mut letters = text.chars();
            let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
            (first + letters.as_str()).into()
        }
        "print" => arguments.iter().map(shown).collect::<String>().into(),
        "println" => (arguments.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n").into(),
        "printf" => printf(&text(0), &arguments[1.min(arguments.len())..])?.into(),
        "truncate" => {
            let length = arguments.get(1).and_then(Value::as_u64).unwrap_or(0);
            text(0).chars().take(usize::try_from(length).unwrap_or(0)).collect::<String>().into()
        }
        "not" => Value::Bool(!arguments.first().is_some_and(truth)),
        "and" => arguments
            .iter()
            .find(|value| !truth(value))
            .or(arguments.last())
            .cloned()
            .unwrap_or(Value::Null),
        "or" => arguments
            .iter()
            .find(|value| truth(value))
            .or(arguments.last())
            .cloned()
            .unwrap_or(Value::Null),
        "eq" => both(std::cmp::Ordering::is_eq),
        "ne" => both(std::cmp::Ordering::is_ne),
        "lt" => both(std::cmp::Ordering::is_lt),
        "le" => both(std::cmp::Ordering::is_le),
        "gt" => both(std::cmp::Ordering::is_gt),
        "ge" => both(std::cmp::Ordering::is_ge),
        _ => return Err(format!("there is no function `{name}` in templates here")),
    })
}

fn item(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        (Value::Array(items), Value::Number(number)) => {
            let index = number.as_u64().and_then(|index| usize::try_from(index).ok());
            index.and_then(|index| items.get(index)).cloned().ok_or_else(|| {
                format!("`index`: there is no item {number} in a list of {}", items.len())
            })
        }
        (Value::Object(map), Value::String(key)) => {
            Ok(map.get(key).cloned().unwrap_or_else(|| Value::String(String::new())))
        }
        (Value::Null, _) => Err("`index` of nothing".into()),
        _ => Err("`index` needs a list and a number, or a map and a text".into()),
    }
}

fn printf(format: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('%') => out.push('%'),
            Some('s' | 'v' | 'd') => out.push_str(&arguments.next().map(shown).unwrap_or_default()),
            Some('q') => {
                let text = arguments.next().map(shown).unwrap_or_default();
                out.push_str(&Value::String(text).to_string());
            }
            other => {
                let verb = other.map(String::from).unwrap_or_default();
                return Err(format!("`printf`: `%{verb}` is not there; %s, %v, %d and %q are"));
            }
        }
    }
    Ok(out)
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A value as Go prints it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let mut pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(template: &str) -> Result<String, String> {
        let value = json!({
            "Id": "sha256:aa", "RepoTags": ["a:1", "b:2"], "Empty": [], "Size": 12,
            "Config": {"Env": ["A=1"], "Labels": {"org.x/y": "z"}, "User": ""},
        });
        Template::parse(template)?.render(&value)
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
            ("{{$x := 1}}", "variables"),
            ("{{template \"x\"}}", "not there yet"),
            ("{{(.Id}}", "not closed"),
        ] {
            let error = render(template).unwrap_err();
            assert!(error.contains(word), "{template}: {error}");
        }
    }
}
