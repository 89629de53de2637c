//! Rules that need nothing but the text: the casing of words, comments, MAINTAINER.

use graph::LineRange;

use super::{Reporter, rules};
use crate::instruction::{Instruction, InstructionKind};
use crate::lexer;
use crate::stage::{Dockerfile, Stage};
use crate::words;

/// Looks at a whole file, in its order.
pub(super) fn check(file: &Dockerfile, reporter: &Reporter) {
    for line in &file.empty_continuations {
        reporter.enter(&[], *line);
        reporter.report(&rules::NO_EMPTY_CONTINUATION, "", "Empty continuation line".into());
    }
    file.global_args.iter().for_each(|argument| check_instruction(argument, reporter));
    for stage in &file.stages {
        check_from(stage, file.escape, reporter);
        stage.instructions.iter().for_each(|instruction| check_instruction(instruction, reporter));
    }
}

fn check_instruction(instruction: &Instruction, reporter: &Reporter) {
    reporter.enter(&instruction.comments, instruction.lines);
    match &instruction.kind {
        InstructionKind::Maintainer(_) => reporter.report(
            &rules::MAINTAINER_DEPRECATED,
            &instruction.keyword,
            "Maintainer instruction is deprecated in favor of using label".into(),
        ),
        InstructionKind::Arg(arguments) => {
            let names: Vec<&str> = arguments.iter().map(|(name, _)| name.as_str()).collect();
            check_description("ARG", &names, &instruction.comments, reporter);
        }
        _ => {}
    }
}

fn check_from(stage: &Stage, escape: char, reporter: &Reporter) {
    reporter.enter(&stage.comments, stage.lines);
    let from = lexer::split(&stage.text, escape);
    let words = words::split(&from.rest);
    let (Some(word), Some(name)) = (words.get(1), words.get(2)) else { return };
    if *name != name.to_lowercase() {
        let message = format!("Stage name '{name}' should be lowercase");
        reporter.report(&rules::STAGE_NAME_CASING, name, message);
    }
    // A FROM of mixed case is of another rule.
    let matches = match Casing::of(&from.keyword) {
        Some(Casing::Lower) => *word == word.to_lowercase(),
        Some(Casing::Upper) => *word == word.to_uppercase(),
        None => true,
    };
    if !matches {
        let message = format!("'{word}' and '{}' keywords' casing do not match", from.keyword);
        reporter.report(&rules::FROM_AS_CASING, word, message);
    }
    if let Some(name) = &stage.name {
        check_description("FROM", &[name], &stage.comments, reporter);
    }
}

/// The last comment above a definition should begin with what is defined.
fn check_description(keyword: &str, names: &[&str], comments: &[String], reporter: &Reporter) {
    let (Some(comment), Some(first)) = (comments.last(), names.first()) else { return };
    let subject = comment.split(' ').next().unwrap_or_default();
    if names.contains(&subject) {
        return;
    }
    let example = if names.len() > 1 { "<arg_key>" } else { first };
    let message =
        format!("Comment for {keyword} should follow the format: `# {example} <description>`");
    reporter.report(&rules::INVALID_DEFINITION_DESCRIPTION, "", message);
}

#[derive(Clone, Copy, PartialEq)]
enum Casing {
    Lower,
    Upper,
}

impl Casing {
    /// The casing of a word; none if it is mixed.
    fn of(word: &str) -> Option<Self> {
        if word == word.to_lowercase() {
            Some(Self::Lower)
        } else if word == word.to_uppercase() {
            Some(Self::Upper)
        } else {
            None
        }
    }
}

/// Keywords should be written as most are; in doubt, in upper case.
pub(super) fn check_casing(file: &Dockerfile, reporter: &Reporter) {
    let keywords: Vec<(String, LineRange)> = file
        .stages
        .iter()
        .flat_map(|stage| {
            let from = lexer::split(&stage.text, file.escape).keyword;
            let others = stage.instructions.iter().map(|i| (i.keyword.clone(), i.lines));
            std::iter::once((from, stage.lines)).chain(others)
        })
        .collect();
    let count = |casing| keywords.iter().filter(|(k, _)| Casing::of(k) == Some(casing)).count();
    let (wanted, name) = match count(Casing::Lower) > count(Casing::Upper) {
        true => (Casing::Lower, "lowercase"),
        false => (Casing::Upper, "uppercase"),
    };
    for (keyword, lines) in &keywords {
        if Casing::of(keyword) != Some(wanted) {
            reporter.enter(&[], *lines);
            let message = format!(
                "Command '{keyword}' should match the case of the command majority ({name})"
            );
            reporter.report(&rules::CONSISTENT_INSTRUCTION_CASING, keyword, message);
        }
    }
}
