//! Rules of stages: names, bases, platforms.

use std::collections::HashSet;

use graph::LineRange;
use oci::{Platform, Reference};

use super::{Reporter, rules, statements};
use crate::expand::{Env, Lex, Word};
use crate::go;
use crate::instruction::InstructionKind;
use crate::stage::Dockerfile;
use crate::suggest;

impl Reporter {
    /// Runs the rules that need nothing but the text.
    pub(crate) fn check_text(&self, file: &Dockerfile) {
        statements::check(file, self);
        self.check_names(file);
        statements::check_casing(file, self);
    }

    fn check_names(&self, file: &Dockerfile) {
        let mut known = HashSet::new();
        for stage in &file.stages {
            let Some(name) = &stage.name else { continue };
            self.enter(&[], stage.lines);
            if matches!(name.as_str(), "context" | "scratch") {
                let message = format!(
                    "Stage name should not use the same name as reserved stage {}",
                    go::quote(name)
                );
                self.report(&rules::RESERVED_STAGE_NAME, name, message);
            }
            if !known.insert(name) {
                let quoted = go::quote(name);
                let message =
                    format!("Duplicate stage name {quoted}, stage names should be unique");
                self.report(&rules::DUPLICATE_STAGE_NAME, name, message);
            }
        }
    }

    /// Reports undeclared variables of FROM.
    pub(crate) fn check_from_arguments(&self, word: &Word, declared: &[&str]) {
        for name in word.unset.iter().filter(|name| !declared.contains(&name.as_str())) {
            let mut message = format!("FROM argument '{name}' is not declared");
            if let Some(near) = suggest::search(name, declared.iter().copied(), true) {
                message.push_str(&format!(" (did you mean {near}?)"));
            }
            self.report(&rules::UNDEFINED_ARG_IN_FROM, name, message);
        }
    }

    /// `FROM --platform`, as written and resolved.
    pub(crate) fn check_platform(&self, text: &str, word: &Word, target: &str, stage: &str) {
        if word.set == ["TARGETPLATFORM"] && word.unset.is_empty() && word.text == target {
            let message = format!(
                "Setting platform to predefined {text} in FROM is redundant as this is the default behavior"
            );
            self.report(&rules::REDUNDANT_TARGET_PLATFORM, text, message);
        }
        if !word.set.is_empty() || !word.unset.is_empty() {
            return;
        }
        // A stage whose name says what it is for is meant to be of one platform.
        let Ok(platform) = word.text.parse::<Platform>() else { return };
        if !stage.contains(&platform.os) && !stage.contains(&platform.architecture) {
            let value = go::quote(&word.text);
            let message = format!("FROM --platform flag should not use constant value {value}");
            self.report(&rules::FROM_PLATFORM_FLAG_CONST_DISALLOWED, text, message);
        }
    }

    /// Compares an image's platform with the requested one.
    pub(crate) fn check_image(
        &self,
        name: &str,
        wanted: &Platform,
        found: &Platform,
        lines: Option<LineRange>,
    ) {
        if wanted.os == found.os && wanted.architecture == found.architecture {
            return;
        }
        let quoted = |platform: &Platform| go::quote(&platform.normalize().to_string());
        let (wanted, found) = (quoted(wanted), quoted(found));
        let message = format!(
            "Base image {name} was pulled with platform {found}, expected {wanted} for current build"
        );
        if let Some(lines) = lines {
            self.enter(&[], lines);
            self.report(&rules::INVALID_BASE_IMAGE_PLATFORM, name, message);
        }
    }
}

/// Bases must be names of images even where no build argument is given.
pub(crate) fn check_defaults(file: &Dockerfile, lex: &Lex, automatic: &Env, reporter: &Reporter) {
    let mut arguments = automatic.clone();
    for instruction in &file.global_args {
        let InstructionKind::Arg(definitions) = &instruction.kind else { continue };
        for (name, default) in definitions {
            let Some(default) = default else { continue };
            // Lowering says what is wrong.
            let Ok(value) = lex.word(default, &arguments) else { return };
            arguments.set(name, &value);
        }
    }
    for stage in &file.stages {
        let Ok(base) = lex.word(&stage.base, &arguments) else { return };
        if base.parse::<Reference>().is_err() {
            reporter.enter(&[], stage.lines);
            let message = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                stage.base
            );
            reporter.report(&rules::INVALID_DEFAULT_ARG_IN_FROM, &stage.base, message);
        }
    }
}
