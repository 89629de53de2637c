//! Search of the tree's tests for ways to pass without testing: a bare `return` without a skip, a skip that is only
//! printed, `#[ignore]`, and a sleep of fixed length.
//!
//! It works on text, not types: a test whose whole body is inside an `if` is missed. There are no false positives.

use std::collections::BTreeSet;
use std::path::Path;

/// A file's text, unchanged and with comments and quoted text replaced by blanks. Both have the same length.
struct Source {
    name: String,
    text: String,
    code: String,
}

/// A function: its name in calls, its attributes and its body.
struct Function<'a> {
    /// `name`, `Type::name`, or `.name` of a method.
    called: String,
    attributes: &'a str,
    body: &'a str,
}

fn sources() -> Vec<Source> {
    let tree = fixtures::source_tree();
    let mut folders = vec![tree.join("tests"), tree.join("crates")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            // Recorded contexts have symbolic links in a circle.
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(source(tree, &path));
            }
        }
    }
    sources
}

fn source(tree: &Path, path: &Path) -> Source {
    let text = std::fs::read_to_string(path).unwrap();
    let name = path.strip_prefix(tree).unwrap().display().to_string();
    Source { name, code: blanked(&text), text }
}

/// The text with comments, strings and characters replaced by blanks of the same length.
fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = quoted(bytes, at);
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).unwrap()
}

/// The end of the comment, string or character that begins at `at`, or `at` if none does.
fn quoted(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let until = |text: &[u8], from: usize| {
        let found = rest[from..].windows(text.len()).position(|window| window == text);
        at + found.map_or(rest.len(), |found| from + found + text.len())
    };
    let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => until(b"\n", 0) - 1,
        [b'/', b'*', ..] => until(b"*/", 2),
        [b'r', b'"' | b'#', ..] if !word_before || bytes[at - 1] == b'b' => {
            let marks = rest[1..].iter().take_while(|byte| **byte == b'#').count();
            match rest.get(1 + marks) {
                Some(b'"') => until(&[b"\"".as_slice(), &b"#".repeat(marks)].concat(), 2 + marks),
                _ => at,
            }
        }
        [b'"', ..] => {
            let mut end = 1;
            while end < rest.len() && rest[end] != b'"' {
                end += if rest[end] == b'\\' { 2 } else { 1 };
            }
            at + (end + 1).min(rest.len())
        }
        [b'\'', b'\\', _, ..] => until(b"'", 3),
        // A lifetime has no closing quote.
        [b'\'', first, ..] => {
            let length = 1 + first.leading_ones().saturating_sub(1) as usize;
            match rest.get(1 + length) {
                Some(b'\'') => at + length + 2,
                _ => at,
            }
        }
        _ => at,
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The position of the brace that closes the one at `open`.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.as_bytes()[open..].iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at;
        }
    }
    code.len()
}

/// The positions of a word in code, as a whole word.
fn places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        !code[..*at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word)
    })
}

/// The type that an `impl` is for, and the range of its body.
fn impls(code: &str) -> Vec<(String, std::ops::Range<usize>)> {
    places(code, "impl")
        .filter_map(|at| {
            let open = at + code[at..].find('{')?;
            let head = &code[at + 4..open];
            let head = head.rsplit_once(" for ").map_or(head, |(_, name)| name);
            let head = head.split_once('>').filter(|_| head.starts_with('<')).map_or(head, |h| h.1);
            let name: String = head.trim().chars().take_while(|c| is_word(*c)).collect();
            Some((name, open..closing(code, open)))
        })
        .collect()
}

fn functions(source: &Source) -> Vec<Function<'_>> {
    let code = &source.code;
    let impls = impls(code);
    places(code, "fn")
        .filter_map(|at| {
            let rest = &code[at + 2..];
            let name: String = rest.trim_start().chars().take_while(|c| is_word(*c)).collect();
            let open = at + rest.find(['{', ';'])? + 2;
            if name.is_empty() || !code[open..].starts_with('{') {
                return None;
            }
            let owner = impls.iter().rev().find(|(_, range)| range.contains(&at));
            let arguments = code[at..open].split_once('(').map_or("", |(_, arguments)| arguments);
            let first = arguments.split([',', ')']).next().unwrap_or_default();
            let called = match owner {
                Some(_) if places(first, "self").next().is_some() => format!(".{name}"),
                Some((owner, _)) => format!("{owner}::{name}"),
                None => name,
            };
            let before = code[..at].rfind(['}', ';', '{']).map_or(0, |end| end + 1);
            Some(Function {
                called,
                attributes: &source.text[before..at],
                body: &code[open..closing(code, open)],
            })
        })
        .collect()
}

/// The calls in a piece of code, in the form of [`Function::called`].
fn calls(code: &str) -> Vec<String> {
    code.match_indices('(')
        .filter_map(|(at, _)| {
            let before = &code[..at];
            let start = before.rfind(|c| !is_word(c)).map_or(0, |end| end + 1);
            let name = &before[start..];
            let path = &before[..start];
            if name.is_empty() {
                return None;
            }
            if let Some(path) = path.strip_suffix("::") {
                let start = path.rfind(|c| !is_word(c)).map_or(0, |end| end + 1);
                let owner = &path[start..];
                // A type, not a module.
                if owner.starts_with(char::is_uppercase) {
                    return Some(format!("{owner}::{name}"));
                }
            }
            let dot = if path.trim_end().ends_with('.') { "." } else { "" };
            Some(format!("{dot}{name}"))
        })
        .collect()
}

/// The functions that report a skip, and all functions that call them.
fn that_skip(functions: &[&Function<'_>]) -> BTreeSet<String> {
    let mut known: BTreeSet<String> = ["skip", "leave_out"].map(str::to_owned).into();
    let calls: Vec<(&str, Vec<String>)> =
        functions.iter().map(|function| (function.called.as_str(), calls(function.body))).collect();
    loop {
        let more: Vec<String> = calls
            .iter()
            .filter(|(called, _)| !known.contains(*called))
            .filter(|(_, calls)| calls.iter().any(|call| known.contains(call)))
            .map(|(called, _)| (*called).to_owned())
            .collect();
        if more.is_empty() {
            return known;
        }
        known.extend(more);
    }
}

/// The bare returns of a test whose statement contains no skip.
fn bare_returns<'a>(body: &'a str, that_skip: &BTreeSet<String>) -> Vec<&'a str> {
    places(body, "return")
        .filter_map(|at| {
            let after = body[at + "return".len()..].trim_start();
            let is_bare = after.starts_with([';', '}', ',']) || after.starts_with("Ok(())");
            // The block of the return, and the statement that the block belongs to.
            let block = body[..at].rfind('{')?;
            let start = body[..block].rfind(['{', '}', ';']).map_or(0, |end| end + 1);
            let statement = &body[start..at];
            let skips = calls(statement).iter().any(|call| that_skip.contains(call));
            (is_bare && !skips).then_some(statement.trim())
        })
        .collect()
}

/// True if the function has a test attribute.
fn is_test(function: &Function<'_>) -> bool {
    function.attributes.contains("#[test]") || function.attributes.contains("#[tokio::test")
}

/// True for integration tests, and for files of unit tests.
fn is_of_tests(source: &Source) -> bool {
    source.name.starts_with("tests/")
        || source.name.contains("/tests/")
        || source.name.ends_with("tests.rs")
}

#[test]
fn no_test_ends_without_a_word() {
    let sources = sources();
    let functions: Vec<_> = sources.iter().map(|source| (source, functions(source))).collect();
    let all: Vec<&Function<'_>> = functions.iter().flat_map(|(_, all)| all).collect();
    let that_skip = that_skip(&all);
    assert!(that_skip.contains("registry") && that_skip.contains("root_or_skip"), "{that_skip:?}");
    let mut found = Vec::new();
    let mut tests = 0;
    for (source, functions) in &functions {
        for function in functions.iter().filter(|function| is_test(function)) {
            tests += 1;
            for bare in bare_returns(function.body, &that_skip) {
                found.push(format!("{}: {}: {bare} return", source.name, function.called));
            }
        }
        let ignored = source.text.match_indices("#[ignore").count();
        if ignored > 0 && !source.name.ends_with("hidden_skips.rs") {
            found.push(format!("{}: `#[ignore]`", source.name));
        }
    }
    assert!(tests > 500, "{tests} tests were found");
    assert!(found.is_empty(), "say why with `fixtures::skip`:\n{}", found.join("\n"));
}

/// Only the helper's skips are counted, and fail in strict mode.
#[test]
fn no_skip_is_only_printed() {
    let printed = ["println!(\"skipped", "print!(\"skipped", "note(&format!(\"skipped"];
    let own = ["skips.rs", "hidden_skips.rs", "tally.rs", "conformance.rs"];
    let sources = sources();
    let found: Vec<&str> = sources
        .iter()
        .filter(|source| !own.iter().any(|own| source.name.ends_with(own)))
        .filter(|source| printed.iter().any(|printed| source.text.contains(printed)))
        .map(|source| source.name.as_str())
        .collect();
    assert!(found.is_empty(), "use `fixtures::skip`: {found:?}");
}

/// A sleep in a test must be in a loop with a deadline. Alone, it is a guess about the machine's speed.
#[test]
fn no_test_sleeps_for_a_fixed_time() {
    let sources = sources();
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| is_of_tests(source)) {
        for at in places(&source.code, "sleep") {
            if !source.code[at + 5..].starts_with('(') {
                continue;
            }
            // The head of the innermost enclosing block that is a loop.
            let mut depth = 0_i32;
            let opens = source.code[..at].bytes().enumerate().rev().filter_map(|(at, byte)| {
                depth += i32::from(byte == b'}') - i32::from(byte == b'{');
                (byte == b'{' && depth < 0).then(|| {
                    depth = 0;
                    at
                })
            });
            let in_a_loop = opens.take(3).any(|open| {
                let start = source.code[..open].rfind(['{', '}', ';']).map_or(0, |end| end + 1);
                ["while", "loop", "for"]
                    .iter()
                    .any(|word| places(&source.code[start..open], word).next().is_some())
            });
            if !in_a_loop {
                let line = source.code[..at].lines().count();
                found.push(format!("{}:{line}", source.name));
            }
        }
    }
    assert!(found.is_empty(), "wait for what is to happen, with a deadline: {found:?}");
}

#[test]
fn hidden_skips_are_found() {
    let text = r##"
        impl Bench { fn new(test: &str) -> Option<Self> { crate::program(test, "{")?; None } }
        pub fn program(test: &str, name: &str) -> Option<PathBuf> { fixtures::skip(test, "}"); None }
        fn quiet() -> Option<u8> { None } // return; }
        #[test]
        fn good() {
            let Some(bench) = Bench::new("a") else { return };
            if !ready() { return fixtures::skip("good", "no disk"); }
            let text = r#"if x { return; }"#; let c = '{';
            let f = |x: &'static str| x;
        }
        #[tokio::test]
        async fn bad() {
            let Some(x) = quiet() else { return };
            if !is_root() { println!("skipped: {x}"); return; }
            let it = list.iter().skip(1);
        }
    "##;
    let source = Source { name: "x".into(), text: text.into(), code: blanked(text) };
    let functions = functions(&source);
    let all: Vec<_> = functions.iter().collect();
    let that_skip = that_skip(&all);
    assert!(that_skip.contains("Bench::new") && that_skip.contains("program"), "{that_skip:?}");
    let bare = |name: &str| {
        let function = functions.iter().find(|function| function.called == name).unwrap();
        assert!(is_test(function), "{}", function.attributes);
        bare_returns(function.body, &that_skip).len()
    };
    assert_eq!((bare("good"), bare("bad")), (0, 2));
}
