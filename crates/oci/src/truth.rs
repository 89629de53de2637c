//! Truth values in text.

/// Reads a truth value as Go's `strconv.ParseBool` does, and with it docker, buildx and BuildKit.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
