//! The text of a `.dockerignore` as patterns.

use crate::path;

/// Reads patterns: one for each line, `#` in the first column begins a comment, `!` includes
/// again. Patterns are cleaned and have no leading `/`; the last one that matches a path counts.
pub fn ignore_patterns(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().filter(|line| !line.starts_with('#')).filter_map(pattern).collect()
}

fn pattern(line: &str) -> Option<String> {
    let line = line.trim();
    if line.is_empty() {
        return None;
    }
    let (mark, rest) = match line.strip_prefix('!') {
        Some(rest) => ("!", rest.trim()),
        None => ("", line),
    };
    if rest.is_empty() {
        return Some(mark.into());
    }
    let cleaned = path::clean(rest);
    let relative = match cleaned.strip_prefix('/') {
        Some(relative) if !relative.is_empty() => relative,
        _ => &cleaned,
    };
    Some(format!("{mark}{relative}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_cleaned() {
        assert_eq!(
            ignore_patterns("\u{feff}# no\n # yes\r\n\n/a/b/\n!  /c//d/../e \n./x\n!\n/\n"),
            ["# yes", "a/b", "!c/e", "x", "!", "/"]
        );
    }
}
