//! "Did you mean …?"

use std::borrow::Cow;

/// Names further away than this are no suggestions.
const TOO_FAR: usize = 3;

/// The option nearest to `value`, if one is near and none equals it.
pub(crate) fn search<'a>(
    value: &str,
    options: impl IntoIterator<Item = &'a str>,
    case_sensitive: bool,
) -> Option<String> {
    let wanted = fold(value, case_sensitive);
    let length = wanted.chars().count();
    let mut best = None;
    let mut distance = TOO_FAR;
    for option in options {
        let folded = fold(option, case_sensitive);
        if folded == wanted {
            return None;
        }
        // Each character more or less is a step away: there may be thousands of variables.
        if folded.chars().count().abs_diff(length) >= distance {
            continue;
        }
        let found = strsim::levenshtein(&wanted, &folded);
        if found < distance {
            distance = found;
            best = Some(option);
        }
    }
    best.map(|option| {
        let is_lower = !case_sensitive && value == value.to_lowercase();
        if is_lower { option.to_lowercase() } else { option.to_owned() }
    })
}

/// The option most similar to `value`, ignoring case; none if no option is similar.
pub fn nearest<'a>(value: &str, options: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let options: Vec<&str> = options.into_iter().collect();
    let same = options.iter().find(|option| option.eq_ignore_ascii_case(value));
    same.map(|option| (*option).to_owned()).or_else(|| search(value, options, true))
}

fn fold(text: &str, case_sensitive: bool) -> Cow<'_, str> {
    if case_sensitive { Cow::Borrowed(text) } else { Cow::Owned(text.to_lowercase()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found() {
        assert_eq!(search("RUNN", ["RUN", "ENV"], false), Some("RUN".into()));
        assert_eq!(search("form", ["FROM"], false), Some("from".into()));
        assert_eq!(search("bnd", ["bind", "cache"], true), Some("bind".into()));
        assert_eq!(search("nothing", ["bind"], true), None);
        assert_eq!(search("bind", ["bind", "binx"], true), None);
        // A swap is two edits, and a character is one however many bytes it has, as in BuildKit.
        assert_eq!(search("FORM", ["FROM"], true), Some("FROM".into()));
        assert_eq!(search("FORMÉ", ["FROM"], true), None);
        assert_eq!(search("éé", ["ab"], true), Some("ab".into()));
    }
}
