//! From a template's text to pieces (text and actions), and from an action to tokens.

use serde_json::Value;

use crate::TemplateError;

/// A part of a template: literal text, or the inside of `{{…}}`.
#[derive(Debug, PartialEq)]
pub enum Piece {
    Text(String),
    Action(String),
}

/// Splits a template at its actions. Comments are left out, and `{{-` and `-}}` trim their
/// neighbours.
pub fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trims = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, next) = after
            .split_once("}}")
            .ok_or_else(|| TemplateError::UnclosedAction(after.to_owned()))?;
        let mut before = if trims { before.trim_start() } else { before };
        let mut action = action;
        if let Some(inner) = action.strip_prefix("- ") {
            (before, action) = (before.trim_end(), inner);
        }
        trims = action.ends_with(" -");
        let action = action.strip_suffix(" -").unwrap_or(action).trim();
        pieces.push(plain(before));
        if !action.starts_with("/*") {
            pieces.push(Piece::Action(action.into()));
        }
        rest = next;
    }
    pieces.push(plain(if trims { rest.trim_start() } else { rest }));
    Ok(pieces)
}

/// Literal text. docker's command line replaces these two escapes, since shells pass them through.
fn plain(text: &str) -> Piece {
    Piece::Text(text.replace("\\t", "\t").replace("\\n", "\n"))
}

/// A token of an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Open,
    Close,
    Pipe,
    Literal(Value),
    /// `.A.B`; `.` alone has no fields.
    Field(Vec<String>),
    /// `$x.A`; the name of `$` is empty.
    Variable(String, Vec<String>),
    /// A function's name.
    Word(String),
}

/// Splits an action into tokens.
pub fn tokens(text: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let unclosed = || TemplateError::UnclosedText(rest.to_owned());
        let length = match first {
            '(' | ')' | '|' => 1,
            '"' => quoted_length(rest).ok_or_else(unclosed)?,
            '`' => rest[1..].find('`').map(|end| end + 2).ok_or_else(unclosed)?,
            _ => {
                rest.find(|c: char| c.is_whitespace() || "()|\"`".contains(c)).unwrap_or(rest.len())
            }
        };
        tokens.push(token(first, &rest[..length])?);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn token(first: char, text: &str) -> Result<Token, TemplateError> {
    Ok(match first {
        '(' => Token::Open,
        ')' => Token::Close,
        '|' => Token::Pipe,
        '.' => Token::Field(fields(text)),
        '$' => {
            let name = &text[1..];
            let (name, path) = name.split_at(name.find('.').unwrap_or(name.len()));
            Token::Variable(name.into(), fields(path))
        }
        '"' => serde_json::from_str(text)
            .map(Token::Literal)
            .map_err(|_| TemplateError::BadText(text.into()))?,
        '`' => Token::Literal(text.trim_matches('`').into()),
        '0'..='9' | '-' => text
            .parse::<i64>()
            .map(|number| Token::Literal(number.into()))
            .map_err(|_| TemplateError::BadNumber(text.into()))?,
        _ => match text {
            "true" => Token::Literal(true.into()),
            "false" => Token::Literal(false.into()),
            "nil" => Token::Literal(Value::Null),
            name => Token::Word(name.into()),
        },
    })
}

fn fields(path: &str) -> Vec<String> {
    path.split('.').filter(|field| !field.is_empty()).map(str::to_owned).collect()
}

/// The length of a quoted text, quotes included.
fn quoted_length(text: &str) -> Option<usize> {
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
