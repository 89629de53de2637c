//! Patterns for names of targets: `*` is any text, `?` one letter, `[a-z]` one of a class.

/// True if a name has wildcards.
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// True if a pattern matches a name.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut letter) = (0, 0);
    // The last star and the text behind it: a mismatch lets that star take one letter more.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, letter));
            at += 1;
            continue;
        }
        let Some(next) = name.get(letter) else { return at == pattern.len() };
        match one(&pattern[at..], *next) {
            Some(length) => (at, letter) = (at + length, letter + 1),
            None => match star {
                Some((behind, taken)) => {
                    star = Some((behind, taken + 1));
                    (at, letter) = (behind + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
}

/// The length of the first element of a pattern, if it matches a letter.
fn one(pattern: &[u8], letter: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => {
            let end = class.iter().position(|c| *c == b']')?;
            is_of(&class[..end], letter).then_some(end + 2)
        }
        [literal, ..] => (*literal == letter).then_some(1),
    }
}

/// True if a letter is of a class: `a-z0`, or `^a` for all others.
fn is_of(class: &[u8], letter: u8) -> bool {
    if let [b'^', class @ ..] = class {
        return !is_of(class, letter);
    }
    match class {
        [low, b'-', high, rest @ ..] => (*low..=*high).contains(&letter) || is_of(rest, letter),
        [one, rest @ ..] => *one == letter || is_of(rest, letter),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("app-*", "app-1", true),
            ("app-*", "web", false),
            ("*", "", true),
            ("a*b*c", "aXbXbYc", true),
            ("a*b*c", "aXbXbY", false),
            ("app-?", "app-1", true),
            ("app-?", "app-", false),
            ("app-[2-9]", "app-1", false),
            ("app-[^2]", "app-1", true),
            ("app-[", "app-[", false),
            ("*[0-9]", "a1b2", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        // Stars do not multiply the time that a name takes.
        assert!(!matches(&"*a".repeat(1000), &"b".repeat(1000)));
        assert!(!matches(&("*a".repeat(40) + "b"), &"a".repeat(1000)));
    }
}
