//! Rules of instructions inside a stage.

use graph::{LineRange, PatternMatcher};

use super::{Reporter, rules};
use crate::go;
use crate::lexer;
use crate::path;
use crate::suggest;
use crate::words;

/// Words that names of secrets are made of, and words that say that it is none.
const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];
const HARMLESS: [&str; 3] = ["public", "file", "version"];

impl Reporter {
    /// Variables that are used and not set.
    pub(crate) fn check_unset<'a>(
        &self,
        unset: &[String],
        known: impl IntoIterator<Item = &'a str>,
    ) {
        if unset.is_empty() {
            return;
        }
        let known: Vec<&str> = known.into_iter().collect();
        for name in unset {
            let mut message = format!("Usage of undefined variable '${name}'");
            if let Some(near) = suggest::search(name, known.iter().copied(), true) {
                message.push_str(&format!(" (did you mean ${near}?)"));
            }
            self.report(&rules::UNDEFINED_VAR, name, message);
        }
    }

    /// `ENV name value`, and LABEL so.
    pub(crate) fn check_pairs(&self, text: &str, escape: char) {
        let statement = lexer::split(text, escape);
        let words = words::split_quoted(&statement.rest, escape);
        if words.first().is_some_and(|first| !first.contains('=')) {
            let keyword = &statement.keyword;
            let message = format!(
                "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
            );
            self.report(&rules::LEGACY_KEY_VALUE_FORMAT, &statement.rest, message);
        }
    }

    /// Names of ARG (`instruction` says which) and ENV that are those of secrets.
    pub(crate) fn check_secret(&self, instruction: &str, name: &str) {
        let has = |words: &[&str]| {
            name.split('_').any(|part| words.iter().any(|word| part.eq_ignore_ascii_case(word)))
        };
        if has(&SECRET) && !has(&HARMLESS) {
            let quoted = go::quote(name);
            let message = format!(
                "Do not use ARG or ENV instructions for sensitive data ({instruction} {quoted})"
            );
            self.report(&rules::SECRETS_USED_IN_ARG_OR_ENV, name, message);
        }
    }

    /// An instruction of which the last one counts; `earlier` is where the last one was so far.
    pub(crate) fn check_once(&self, keyword: &str, earlier: Option<LineRange>) {
        if let Some(lines) = earlier {
            let message = format!(
                "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
            );
            self.report_at(&rules::MULTIPLE_INSTRUCTIONS_DISALLOWED, lines, keyword, message);
        }
    }

    /// CMD and ENTRYPOINT in shell form without a SHELL that says that it is meant.
    pub(crate) fn check_exec_form(&self, keyword: &str) {
        let message = format!(
            "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
        );
        self.report(&rules::JSON_ARGS_RECOMMENDED, "", message);
    }

    /// The first WORKDIR of a chain of stages.
    pub(crate) fn check_workdir(&self, path: &str) {
        if !path.starts_with('/') {
            let message = format!(
                "Relative workdir {} can have unexpected results if the base image changes",
                go::quote(path)
            );
            self.report(&rules::WORKDIR_RELATIVE_PATH, path, message);
        }
    }

    /// A word of EXPOSE, and its parts.
    pub(crate) fn check_port(&self, text: &str, protocol: &str, is_mapping: bool) {
        if protocol != protocol.to_lowercase() {
            let message =
                format!("Defined protocol '{text}' in EXPOSE instruction should be lowercase");
            self.report(&rules::EXPOSE_PROTO_CASING, text, message);
        }
        if is_mapping {
            let message = format!(
                "EXPOSE instruction should not define an IP address or host-port mapping, found '{text}'"
            );
            self.report(&rules::EXPOSE_INVALID_FORMAT, text, message);
        }
    }

    /// A source in the main context that its ignore file leaves out. Files that exclude some
    /// things again are not judged.
    pub(crate) fn check_ignored(&self, source: &str, patterns: &[String], is_add: bool) {
        // An invalid pattern is reported by the reader of the context.
        let Ok(matcher) = PatternMatcher::new(patterns) else { return };
        if matcher.is_empty() || matcher.has_exclusions() {
            return;
        }
        let source = path::clean(source);
        let everything = |pattern: &&String| matches!(pattern.as_str(), "*" | "**" | "**/*");
        if matches!(source.as_str(), "." | "/") && !patterns.iter().any(|p| everything(&p)) {
            return;
        }
        if matcher.matches_or_parent_matches(source.as_bytes()) {
            let keyword = if is_add { "Add" } else { "Copy" };
            let message = format!(
                "Attempting to {keyword} file {} that is excluded by .dockerignore",
                go::quote(&source)
            );
            self.report(&rules::COPY_IGNORED_FILE, &source, message);
        }
    }
}
