//! `WWW-Authenticate`: how a registry wants to be told who asks (RFC 9110, 11.6.1).

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// One way to authenticate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case: `bearer`, `basic`.
    pub scheme: String,
    /// Names in lower case.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let named = self.parameters.iter().find(|(key, _)| key == name);
        named.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// All challenges of an answer: several headers, each with several.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(parse).collect()
}

fn parse(mut rest: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        if end == 0 {
            match rest.chars().next() {
                // A stray `=`: skipped, or this would not end.
                Some(stray) => rest = &rest[stray.len_utf8()..],
                None => return found,
            }
            continue;
        }
        let (word, after) = rest.split_at(end);
        match (after.trim_start().strip_prefix('='), found.last_mut()) {
            (Some(value), Some(challenge)) => {
                let (value, after) = take_value(value.trim_start());
                challenge.parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            _ => {
                let scheme = word.to_ascii_lowercase();
                found.push(Challenge { scheme, parameters: Vec::new() });
                rest = after;
            }
        }
    }
}

/// A token, or a string in quotes with backslashes.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].into(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_told_apart() {
        let found = parse(
            r#"Bearer realm="https://auth.example.com/token",service="a \"b\", c",scope="repository:x:pull,push", BASIC realm=simple"#,
        );
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].scheme, "bearer");
        assert_eq!(found[0].get("realm"), Some("https://auth.example.com/token"));
        assert_eq!(found[0].get("service"), Some(r#"a "b", c"#));
        assert_eq!(found[0].get("scope"), Some("repository:x:pull,push"));
        assert_eq!(found[1].scheme, "basic");
        assert_eq!(found[1].get("realm"), Some("simple"));
    }

    #[test]
    fn odd_headers_do_no_harm() {
        for text in ["", "=", "Bearer", "Basic,", "Bearer realm=\"x", "=,=\"", "é=é é", "a = b"]
        {
            parse(text);
        }
        assert_eq!(parse("Negotiate, Basic realm = \"x\"")[1].get("realm"), Some("x"));
    }
}
