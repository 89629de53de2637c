//! Patterns of `${name#pattern}` and its relatives: `*`, `?` and escapes; no bracket classes.
//! As in BuildKit, which makes regular expressions of them, wildcards match no newline.

#[derive(Clone, Copy, Debug, PartialEq)]
enum GlobToken {
    Character(char),
    Any,
    Star,
}

/// A backslash in front of a character that needs none.
#[derive(Debug, thiserror::Error)]
#[error("invalid escape '\\{0}'")]
pub(crate) struct InvalidEscape(char);

/// A pattern that was read.
#[derive(Debug)]
pub(crate) struct Pattern(Vec<GlobToken>);

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidEscape> {
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => GlobToken::Star,
                '?' => GlobToken::Any,
                // `}` and `/` end parts of `${}`; their escape is no part of the pattern.
                '\\' if matches!(chars.peek(), Some('}' | '/')) => continue,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\')) => GlobToken::Character(c),
                    other => return Err(InvalidEscape(other.unwrap_or('\u{fffd}'))),
                },
                c => GlobToken::Character(c),
            });
        }
        Ok(Self(tokens))
    }

    /// The end of the shortest or longest match at the front of `text`.
    fn end(&self, text: &[char], longest: bool) -> Option<usize> {
        let last = self.0.len();
        let mut states = vec![false; last + 1];
        states[0] = true;
        let mut found = None;
        for position in 0..=text.len() {
            for (state, token) in self.0.iter().enumerate() {
                states[state + 1] |= states[state] && *token == GlobToken::Star;
            }
            if states[last] {
                found = Some(position);
                if !longest {
                    return found;
                }
            }
            let Some(&c) = text.get(position) else { break };
            let mut next = vec![false; last + 1];
            let mut alive = false;
            for (state, token) in self.0.iter().enumerate() {
                let (fits, to) = token.step(c, state);
                if states[state] && fits {
                    next[to] = true;
                    alive = true;
                }
            }
            if !alive {
                break;
            }
            states = next;
        }
        found
    }

    pub(crate) fn strip_prefix(&self, text: &str, longest: bool) -> String {
        let chars: Vec<char> = text.chars().collect();
        chars[self.end(&chars, longest).unwrap_or(0)..].iter().collect()
    }

    pub(crate) fn strip_suffix(&self, text: &str, longest: bool) -> String {
        let reversed = Self(self.0.iter().rev().copied().collect());
        let chars: Vec<char> = text.chars().rev().collect();
        chars[reversed.end(&chars, longest).unwrap_or(0)..].iter().rev().collect()
    }

    /// The first match that begins at `from` or later, as long as it can be. One pass: each state
    /// remembers the earliest start that led to it.
    fn find(&self, text: &[char], from: usize) -> Option<(usize, usize)> {
        let last = self.0.len();
        let earlier = |one: Option<usize>, other: Option<usize>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let mut states: Vec<Option<usize>> = vec![None; last + 1];
        let mut best: Option<(usize, usize)> = None;
        for position in from..=text.len() {
            if best.is_none() {
                states[0] = states[0].or(Some(position));
            }
            for (state, token) in self.0.iter().enumerate() {
                if *token == GlobToken::Star {
                    states[state + 1] = earlier(states[state + 1], states[state]);
                }
            }
            if let Some(start) = states[last]
                && best.is_none_or(|(known, _)| start <= known)
            {
                best = Some((start, position));
            }
            if let Some((start, _)) = best {
                // A match that begins later does not count any more.
                states.iter_mut().for_each(|state| *state = state.filter(|known| *known <= start));
            }
            let Some(&c) = text.get(position) else { break };
            let mut next = vec![None; last + 1];
            for (state, token) in self.0.iter().enumerate() {
                let (fits, to) = token.step(c, state);
                if fits {
                    next[to] = earlier(next[to], states[state]);
                }
            }
            if best.is_some() && next.iter().all(Option::is_none) {
                break;
            }
            states = next;
        }
        best
    }

    pub(crate) fn replace_first(&self, text: &str, replacement: &str) -> String {
        let chars: Vec<char> = text.chars().collect();
        let Some((start, end)) = self.find(&chars, 0) else { return text.into() };
        let mut out: String = chars[..start].iter().collect();
        out.push_str(replacement);
        out.extend(&chars[end..]);
        out
    }

    /// Replaces every match; `replacement` is a template in which `$0` is what matched and other
    /// names are empty (Go's `Regexp.ReplaceAllString`, which shows through in BuildKit).
    /// None if the result would be longer than `most` bytes.
    pub(crate) fn replace_all(&self, text: &str, replacement: &str, most: usize) -> Option<String> {
        let chars: Vec<char> = text.chars().collect();
        let mut out = String::new();
        let (mut copied, mut from) = (0, 0);
        let mut last_end = None;
        while from <= chars.len()
            && let Some((start, end)) = self.find(&chars, from)
        {
            out.extend(&chars[copied..start]);
            copied = start;
            // An empty match right behind another one does not count.
            if end > start || last_end != Some(start) {
                expand_template(replacement, &chars[start..end], &mut out);
                last_end = Some(end);
                copied = end;
            }
            from = if end > start { end } else { start + 1 };
            if out.len() > most {
                return None;
            }
        }
        out.extend(chars.get(copied..).unwrap_or_default());
        Some(out)
    }
}

impl GlobToken {
    /// The next state, and true if the character fits.
    fn step(self, c: char, state: usize) -> (bool, usize) {
        match self {
            GlobToken::Character(wanted) => (c == wanted, state + 1),
            GlobToken::Any => (c != '\n', state + 1),
            GlobToken::Star => (c != '\n', state),
        }
    }
}

fn expand_template(template: &str, matched: &[char], out: &mut String) {
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let word = |text: &str| {
            text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())
        };
        let (name, after) = match after.strip_prefix('{') {
            Some(inner) => {
                let end = word(inner);
                match inner[end..].strip_prefix('}') {
                    Some(after) => (&inner[..end], after),
                    None => ("", after),
                }
            }
            None => after.split_at(word(after)),
        };
        match name {
            "" => out.push('$'),
            name if name.bytes().all(|b| b == b'0') => out.extend(matched),
            _ => {}
        }
        rest = after;
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn prefixes_and_suffixes() {
        let path = "/a/banana/t.tar.gz";
        assert_eq!(pattern("*/").strip_prefix(path, false), "a/banana/t.tar.gz");
        assert_eq!(pattern("*/").strip_prefix(path, true), "t.tar.gz");
        assert_eq!(pattern("/*").strip_suffix(path, false), "/a/banana");
        assert_eq!(pattern("/*").strip_suffix(path, true), "");
        assert_eq!(pattern("??").strip_suffix(path, false), "/a/banana/t.tar.");
        assert_eq!(pattern("nope").strip_prefix(path, true), path);
        assert_eq!(pattern("\\*").strip_prefix("*a", true), "a");
        assert!(Pattern::parse("\\a").is_err());
    }

    #[test]
    fn replacing() {
        let path = "/a/banana/t.tar.gz";
        assert_eq!(pattern("b*t").replace_first(path, "Y"), "/a/Yar.gz");
        assert_eq!(pattern("b*nope").replace_first(path, "Y"), path);
        assert_eq!(pattern("a*c").replace_first("xabacbd", "Y"), "xYbd");
        let all = |glob, text, replacement| {
            pattern(glob).replace_all(text, replacement, 100).expect("a short text")
        };
        assert_eq!(all("?a", path, "Z"), "Z/ZZZ/t.Zr.gz");
        assert_eq!(all(".", path, "\\$1"), "/a/banana/t\\tar\\gz");
        assert_eq!(all("a", "aba", "[$0]$$"), "[a]$b[a]$");
        assert_eq!(all("*", "abc", "x"), "x");
        assert_eq!(all("", "ab", "-"), "-a-b-");
        assert_eq!(all("b", "abb", "b"), "abb");
        assert_eq!(pattern("?").replace_all(&"a".repeat(20), &"b".repeat(20), 100), None);
    }
}
