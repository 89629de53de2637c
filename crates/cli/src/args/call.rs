//! `--call`: a question about a Dockerfile instead of a build.

use super::compound::boolean;

/// A question about a Dockerfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The kind of question.
    pub kind: CallKind,
    /// True if the answer is JSON and not text.
    pub is_json: bool,
    /// True if violated rules do not fail the command.
    pub ignores_status: bool,
}

/// The kinds of questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// The rules that the Dockerfile violates.
    Check,
    /// The arguments and secrets of a target.
    Outline,
    /// The stages that can be built.
    Targets,
}

/// An error in the value of `--call`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// A question that kiln cannot answer.
    #[error("`{0}` is none of build, check, outline, targets")]
    Kind(String),
    /// A truth value that is none.
    #[error("`{0}` is neither true nor false")]
    NotABoolean(String),
    /// An unknown option.
    #[error("`{0}` is none of format=json|text, ignorestatus=")]
    Option(String),
}

impl Call {
    /// `--check` and `kiln check`.
    pub const CHECK: Self = Self { kind: CallKind::Check, is_json: false, ignores_status: false };

    /// Reads `check,format=json`. Returns `None` for a build.
    ///
    /// # Errors
    /// If the question or an option is unknown.
    pub fn parse(text: &str) -> Result<Option<Self>, CallError> {
        let mut fields = text.split(',').map(str::trim);
        let name = fields.next().unwrap_or_default();
        let kind = match name.strip_prefix("frontend.").unwrap_or(name) {
            "" | "build" => None,
            "check" | "lint" => Some(CallKind::Check),
            "outline" => Some(CallKind::Outline),
            "targets" => Some(CallKind::Targets),
            _ => return Err(CallError::Kind(name.to_owned())),
        };
        let (mut is_json, mut ignores_status) = (false, false);
        for field in fields {
            match field.split_once('=') {
                Some(("format", "json")) => is_json = true,
                Some(("format", "text")) => is_json = false,
                Some(("ignorestatus", value)) => {
                    ignores_status =
                        boolean(value).ok_or_else(|| CallError::NotABoolean(value.to_owned()))?;
                }
                _ => return Err(CallError::Option(field.to_owned())),
            }
        }
        Ok(kind.map(|kind| Self { kind, is_json, ignores_status }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read() {
        assert_eq!(Call::parse("check"), Ok(Some(Call::CHECK)));
        assert_eq!(Call::parse("build"), Ok(None));
        let targets = Call::parse("targets,format=json,ignorestatus=true").unwrap().unwrap();
        assert!(targets.kind == CallKind::Targets && targets.is_json && targets.ignores_status);
        for text in ["x", "check,format=xml", "check,ignorestatus=maybe", "check,x"] {
            assert!(Call::parse(text).is_err(), "{text}");
        }
    }
}
