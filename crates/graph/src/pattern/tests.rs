use super::*;

#[test]
fn globs_match_as_in_go() {
    for (pattern, name, expected) in [
        ("abc", "abc", true),
        ("*", "abc", true),
        ("*c", "abc", true),
        ("a*", "a", true),
        ("a*", "ab/c", false),
        ("a*/b", "abc/b", true),
        ("a*/b", "a/c/b", false),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
        ("a*b?c*x", "abxbbxdbxebxczzx", true),
        ("ab[c]", "abc", true),
        ("ab[b-d]", "abc", true),
        ("ab[^c]", "abc", false),
        ("ab[^e-g]", "abc", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "ab", false),
        ("a?b", "a☺b", true),
        ("a[^a]b", "a☺b", true),
        ("a?b", "a/b", false),
        ("a*b", "a/b", false),
        ("a[^x]b", "a/b", true),
        ("[\\]a]", "]", true),
        ("[x\\-]", "-", true),
        ("*x", "xxx", true),
        ("", "", true),
        ("/d/*.txt", "/d/a.txt", true),
        ("**", "a", true),
        ("**", "a/b", false),
    ] {
        assert_eq!(
            Glob::new(pattern).unwrap().matches(name.as_bytes()),
            expected,
            "{pattern} {name}"
        );
    }
    for pattern in ["[", "[]a]", "[-]", "[x-]", "[-x]", "[a-", "[^", "[^bc", "a[", "\\"] {
        assert!(Glob::new(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn paths_are_cleaned_as_in_go() {
    for (path, clean) in [
        ("", "."),
        ("a//b/", "a/b"),
        ("./a/../b", "b"),
        ("/..", "/"),
        ("../a", "../a"),
        ("a/../..", ".."),
        ("/a/./b/..", "/a"),
        ("!x/", "!x"),
    ] {
        assert_eq!(clean_path(path), clean);
    }
    assert_eq!(split_wildcards("/a/b*/c"), ("/a".into(), "b*/c".into()));
    assert_eq!(split_wildcards("/a/b\\*"), ("/a/b\\*".into(), String::new()));
    assert_eq!(split_wildcards("/*"), ("/".into(), "*".into()));
}

fn one(pattern: &str, path: &str) -> bool {
    PatternMatcher::new(&[pattern]).unwrap().matches_or_parent_matches(path.as_bytes())
}

#[test]
fn single_patterns() {
    for (pattern, path, expected) in [
        ("**", "file", true),
        ("**", "a/b", true),
        ("**/", "a/b", true),
        ("a/**", "a/b/c", true),
        ("a/**", "a", false),
        ("a**", "ab/c", true),
        ("**/**", "a/b", true),
        ("dir/**", "dirx", false),
        ("**/dir", "dir", true),
        ("**/dir", "x/dir/file", true),
        ("**/dir/**", "x/dir/file", true),
        ("**/dir/**", "dir", false),
        ("**/*.go", "x.go", true),
        ("**/*.go", "a/b/x.go", true),
        ("**/*.go", "a/b/x.gox", false),
        ("*.go", "a/x.go", false),
        ("a*/b", "ax/b/c", true),
        ("a/*/b", "a/x/b", true),
        ("a/*/b", "a/x/y/b", false),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "ax/b", false),
        ("a.b", "axb", false),
        ("a.*", "a.b", true),
        ("a+(b)*", "a+(b)c", true),
        ("file?", "file1", true),
        ("file?", "file", false),
        ("[a-c]x", "bx", true),
        ("[!a]x", "!x", true),
        ("[^a]x", "bx", true),
        ("\\*x", "*x", true),
        ("\\*x", "ax", false),
        ("a\\?", "a?", true),
        ("/a", "a", false),
        ("a/", "a/b", true),
        ("**/.git", ".git/config", true),
        ("**foo", "barfoo", true),
        ("日?語", "日本語", true),
    ] {
        assert_eq!(one(pattern, path), expected, "{pattern} {path}");
    }
    for pattern in ["[", "a[", "!", "[z-a]", "a\\e*"] {
        assert!(PatternMatcher::new(&[pattern]).is_err(), "{pattern}");
    }
}

#[test]
fn letters_after_a_backslash_are_gos() {
    for (pattern, path, matches) in [
        (r"bin\Debug", "binDebug", true),
        (r"bin\Debug", "bin/ebug", true),
        (r"bin\Debug", "bin1ebug", false),
        (r"a\b", "a", true),
        (r"a\b", "ab", false),
        (r"a\b*", "a.c", true),
        (r"a\b*", "ac", false),
        (r"a\B*", "ac", true),
        (r"\w?", "_-", true),
        (r"\w?", "-_", false),
        (r"\W\d\s\S", "-1 x", true),
        (r"\Aa\z", "a", true),
        (r"\Aa\zb", "ab", false),
        (r"**/obj\b", "x/obj", true),
    ] {
        assert_eq!(one(pattern, path), matches, "{pattern} {path}");
    }
}

#[test]
fn the_last_match_decides() {
    let matcher = PatternMatcher::new(&["*", "", " !keep ", "keep/no*"]).unwrap();
    assert!(matcher.has_exclusions());
    for (path, expected) in
        [("a", true), ("keep", false), ("keep/yes", false), ("keep/none", true), ("a/b", true)]
    {
        assert_eq!(matcher.matches_or_parent_matches(path.as_bytes()), expected, "{path}");
        let mut info = MatchInfo::default();
        let mut result = false;
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            (result, info) = matcher.matches_using_parent_results(&path.as_bytes()[..end], &info);
        }
        assert_eq!(result, expected, "{path}");
    }
}
