//! Error messages for mistakes: the line, the underlined words, one sentence, and a hint.

use crate::{context_of, kiln, text};

const RULE: &str = "--------------------\n";

/// Builds or checks a Dockerfile and compares all of standard error: the place and the excerpt
/// between two rules, then the sentence and the hint.
#[track_caller]
fn says(dockerfile: &str, files: &[(&str, &str)], excerpt: &str, sentence: &str) {
    let mut files = files.to_vec();
    files.push(("Dockerfile", dockerfile));
    let context = context_of(&files);
    let path = text(context.path());
    let run = kiln().run(["build", "--progress", "quiet", &path]);
    assert!(run.refused(), "{dockerfile}: exit code {:?}\n{}", run.code, run.stderr);
    let (place, lines) = excerpt.split_once('\n').unwrap();
    let expected = format!(
        "{place}\n{RULE}{lines}{RULE}ERROR: failed to build: failed to solve: {sentence}\n"
    );
    assert_eq!(run.stderr.replace(&path, "CONTEXT"), expected, "{dockerfile}");
}

#[test]
fn misspelt_words() {
    says(
        "FROM scratch\nCOPPY a /\n",
        &[],
        "Dockerfile:2\n1 | FROM scratch\n2 | COPPY a /\n  | ^^^^^\n",
        "unknown instruction: COPPY\nhint: did you mean COPY?",
    );
    says(
        "FROM scratch\nCOPY --chwon=1:1 a /\n",
        &[],
        "Dockerfile:2\n1 | FROM scratch\n2 | COPY --chwon=1:1 a /\n  |      ^^^^^^^\n",
        "unknown flag: --chwon\nhint: did you mean chown?",
    );
    says(
        "FROM scratch\nCOPY a.txt /\nCMD x\n",
        &[("b.txt", "")],
        "Dockerfile:2\n1 | FROM scratch\n2 | COPY a.txt /\n  |      ^^^^^\n3 | CMD x\n",
        "failed to compute cache key: \"/a.txt\": not found\nhint: did you mean b.txt?",
    );
    says(
        "ARG VERSION=1\nFROM scratch AS base\nFROM $VERSON\n",
        &[],
        "Dockerfile:3\n1 | ARG VERSION=1\n2 | FROM scratch AS base\n3 | FROM $VERSON\n  |      ^^^^^^^\n",
        "base name ($VERSON) should not be blank\nhint: did you mean VERSION?",
    );
}

#[test]
fn patterns_that_cannot_be_read() {
    let refused = |ignore: &str, dockerfile: &str| {
        let files = [("Dockerfile", dockerfile), (".dockerignore", ignore), ("f", "")];
        let context = context_of(&files);
        let run = kiln().run(["build", "--progress", "quiet", &text(context.path())]);
        assert!(run.refused(), "{ignore}: exit code {:?}\n{}", run.code, run.stderr);
        run.stderr
    };
    let stderr = refused("a\n[b\n", "FROM scratch\nCOPY f /\n");
    assert!(stderr.contains("`[b` is not a valid pattern"), "{stderr}");
    assert!(stderr.contains("hint: `[b` is a line of the .dockerignore"), "{stderr}");
    let stderr = refused("a\n", "FROM scratch\nCOPY [b /\n");
    assert!(stderr.contains("hint: it is a source of COPY"), "{stderr}");
}

#[test]
fn links_that_lead_out_of_sight() {
    let files =
        [("Dockerfile", "FROM scratch\nCOPY --exclude=x l /\n"), (".dockerignore", "a"), ("a", "")];
    let context = context_of(&files);
    std::os::unix::fs::symlink("a", context.path().join("l")).unwrap();
    let run = kiln().run(["build", "--progress", "quiet", &text(context.path())]);
    assert!(run.refused(), "exit code {:?}\n{}", run.code, run.stderr);
    assert!(run.stderr.contains("hint: `l` is a link that leads to nothing"), "{}", run.stderr);
}

#[test]
fn wrong_values() {
    says(
        "FROM scratch\nRUN --mount=type=cache,target=/c,sharing=always \\\n  true\n",
        &[],
        "Dockerfile:2\n1 | FROM scratch\n2 | RUN --mount=type=cache,target=/c,sharing=always \\\n  \
         |                                  ^^^^^^^^^^^^^^\n3 |   true\n",
        "unsupported sharing value \"always\"\nhint: it is shared, private or locked",
    );
}

#[test]
fn stages() {
    says(
        "FROM scratch AS one\nCOPY --from=two / /\nFROM one AS two\nCOPY --from=one / /\n",
        &[],
        "Dockerfile:4\n2 | COPY --from=two / /\n3 | FROM one AS two\n4 | COPY --from=one / /\n  |      ^^^^^^\n",
        "circular dependency detected on stage: one\nhint: a stage can read only what is built before it",
    );
    says(
        "FROM scratch\nCOPY --from=3 /a /\n",
        &[],
        "Dockerfile:2\n1 | FROM scratch\n2 | COPY --from=3 /a /\n  |             ^\n",
        "invalid stage index 3\nhint: stages count from 0 to 0; names are safer",
    );
    says(
        "FROM scratch AS a\nCOPY f /\nFROM scratch\nCOPY --from=a /g /\n",
        &[("f", "")],
        "Dockerfile:4\n2 | COPY f /\n3 | FROM scratch\n4 | COPY --from=a /g /\n  |               ^^\n",
        "failed to compute cache key: \"/g\": not found\nhint: --from has no such file: paths start at its root",
    );
}

#[test]
fn what_the_ignore_file_leaves_out() {
    says(
        "FROM scratch\nCOPY ./src/a.log /\n",
        &[("src/a.log", ""), (".dockerignore", "**/*.tmp\n**/*.log\n")],
        "Dockerfile:2\n1 | FROM scratch\n2 | COPY ./src/a.log /\n  |      ^^^^^^^^^^^\n",
        "failed to compute cache key: \"/src/a.log\": not found\nhint: `**/*.log` in the .dockerignore leaves it out",
    );
}

#[test]
fn statements_of_several_lines() {
    says(
        "FROM scratch\nCOPY <<EOF \\\n  /a\none\ntwo\n",
        &[],
        "Dockerfile:2\n1 | FROM scratch\n2 | COPY <<EOF \\\n  |        ^^^\n3 |   /a\n4 | one\n5 | two\n",
        "unterminated heredoc\nhint: no line is `EOF` alone",
    );
    says(
        "FROM scratch\nENV A=1 \\\n  # B=${A:*x}\n  B=${A:*x}\n",
        &[],
        "Dockerfile:2\n1 | FROM scratch\n2 | ENV A=1 \\\n3 |   # B=${A:*x}\n4 |   B=${A:*x}\n  |     ^^^^^^^\n",
        "failed to process \"${A:*x}\": unsupported modifier (:*) in substitution\nhint: the forms are ${V}, \
         ${V:-word}, ${V:+word}, ${V:?message}, ${V#pattern}, ${V%pattern} and ${V/pattern/word}",
    );
}

#[test]
fn broken_rules_are_shown_in_their_lines() {
    let dockerfile = "FROM scratch AS Base\nENV PASSWORD=x\nCMD a $B\nWORKDIR $C\n";
    let context = context_of(&[("Dockerfile", dockerfile)]);
    let run = kiln().run(["check", &text(context.path())]);
    for part in [
        "Dockerfile:1\n--------------------\n1 | FROM scratch AS Base\n  |                 ^^^^\n",
        "2 | ENV PASSWORD=x\n  |     ^^^^^^^^\n",
        "4 | WORKDIR $C\n  |          ^\n",
    ] {
        assert!(run.stdout.contains(part), "no `{part}` in\n{}", run.stdout);
    }
    assert_eq!(run.code, Some(1));
}

/// Progress for machines contains no excerpt, which is for people and follows it.
#[test]
fn progress_in_json_is_left_alone() {
    let context = context_of(&[("Dockerfile", "FROM scratch\nCOPY a /\n")]);
    let run = kiln().run(["build", "--progress", "rawjson", &text(context.path())]);
    let (json, rest): (Vec<&str>, Vec<&str>) =
        run.stderr.lines().partition(|line| line.starts_with('{'));
    assert!(!json.is_empty());
    json.iter().for_each(|line| drop(serde_json::from_str::<serde_json::Value>(line).unwrap()));
    assert_eq!(rest.first(), Some(&"Dockerfile:2"));
    assert!(!run.stderr.contains("\u{1b}["), "{}", run.stderr);
}
