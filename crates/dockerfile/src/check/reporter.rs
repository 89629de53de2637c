//! The rules in force, and the findings.

use std::cell::RefCell;
use std::collections::BTreeSet;

use graph::{LineRange, SourceFile};

use super::Rule;
use crate::directives::{CheckOptions, Reader};
use crate::error::Error;
use crate::finding::Finding;

/// Collects findings while a Dockerfile is lowered. Expansion goes by shared references, so the
/// list is behind a cell.
#[derive(Debug)]
pub(crate) struct Reporter {
    options: CheckOptions,
    scope: RefCell<CheckedInstruction>,
    /// With the words that they are about, as they are written.
    findings: RefCell<Vec<(Finding, String)>>,
}

/// The instruction under check: its lines, and the options of comments above it.
#[derive(Debug)]
struct CheckedInstruction {
    own: CheckOptions,
    lines: LineRange,
}

impl Reporter {
    pub(crate) fn new(options: CheckOptions) -> Self {
        let scope = CheckedInstruction {
            own: CheckOptions::default(),
            lines: LineRange { first: 1, last: 1 },
        };
        Self { options, scope: RefCell::new(scope), findings: RefCell::default() }
    }

    /// Sets the lines of the findings that follow, and the comments above them.
    pub(crate) fn enter(&self, comments: &[String], lines: LineRange) {
        *self.scope.borrow_mut() = CheckedInstruction { own: options_of(comments), lines };
    }

    /// `word` is what is wrong as it is written; empty where it is the whole.
    pub(crate) fn report(&self, rule: &'static Rule, word: &str, message: String) {
        let lines = self.scope.borrow().lines;
        self.report_at(rule, lines, word, message);
    }

    /// Reports what is elsewhere than where it was noticed.
    pub(crate) fn report_at(
        &self,
        rule: &'static Rule,
        lines: LineRange,
        word: &str,
        message: String,
    ) {
        if self.counts(rule) {
            let finding = Finding { rule, message, lines, span: None };
            self.findings.borrow_mut().push((finding, word.to_owned()));
        }
    }

    fn counts(&self, rule: &Rule) -> bool {
        let scope = self.scope.borrow();
        let named = |names: &[String]| names.iter().any(|name| name == rule.name);
        let mut both = [&self.options, &scope.own].into_iter();
        match rule.experimental {
            true => both.any(|o| o.experimental_all || named(&o.experimental)),
            false => !both.any(|o| o.skip_all || named(&o.skip)),
        }
    }

    /// The failure that `error=true` asks for, if there is a finding.
    pub(crate) fn failure(&self) -> Result<(), Error> {
        let findings = self.findings.borrow();
        if !self.options.error || findings.is_empty() {
            return Ok(());
        }
        let first = findings.iter().min_by_key(|(finding, _)| finding.lines.first);
        let rules: BTreeSet<&str> = findings.iter().map(|(finding, _)| finding.rule.name).collect();
        let rules: Vec<&str> = rules.into_iter().collect();
        let error = Error::new(format!("lint violation found for rules: {}", rules.join(", ")));
        Err(match first {
            Some((finding, word)) => error.at(finding.lines).word(word.clone()).hint(format!(
                "{}; `--check` shows all, `# check=skip=` leaves rules aside",
                finding.message
            )),
            None => error,
        })
    }

    /// All findings, with their words looked up in the text.
    pub(crate) fn into_findings(self, source: &SourceFile) -> Vec<Finding> {
        let lines = source.line_table();
        let findings = self.findings.into_inner().into_iter();
        let located = findings.map(|(mut finding, word)| {
            finding.span = lines.find(finding.lines, &word, false);
            finding
        });
        located.collect()
    }
}

/// The options of the first `check=` comment; none if it cannot be read, as with BuildKit.
fn options_of(comments: &[String]) -> CheckOptions {
    for comment in comments {
        let mut reader = Reader::new("");
        if let Ok(Some("check")) = reader.line(comment, 0) {
            let value = reader.get("check").unwrap_or_default();
            let value = value.split(' ').next().unwrap_or_default();
            return CheckOptions::parse(value).unwrap_or_default();
        }
    }
    CheckOptions::default()
}

#[cfg(test)]
mod tests {
    use super::super::rules;
    use super::*;

    fn counts(options: &str, comment: &str, rule: &'static Rule) -> bool {
        let reporter = Reporter::new(CheckOptions::parse(options).unwrap());
        reporter.enter(&[comment.into()], LineRange { first: 3, last: 3 });
        reporter.report(rule, "", "x".into());
        let failed = reporter.failure().is_err();
        let source = SourceFile { name: "Dockerfile".into(), text: "FROM x".into() };
        let findings = reporter.into_findings(&source);
        assert_eq!(failed, options.contains("error=true") && !findings.is_empty());
        !findings.is_empty()
    }

    #[test]
    fn options_say_which_rules_count() {
        let (rule, experimental) = (&rules::UNDEFINED_VAR, &rules::INVALID_DEFINITION_DESCRIPTION);
        assert!(counts("", "", rule));
        assert!(counts("error=true", "check=skip=Other", rule));
        assert!(!counts("skip=all;error=true", "", rule));
        assert!(!counts("skip=Other,UndefinedVar", "", rule));
        assert!(!counts("", "check=skip=UndefinedVar why not", rule));
        assert!(counts("", "check=nonsense", rule));
        assert!(!counts("", "", experimental));
        assert!(counts("experimental=all;skip=all", "", experimental));
        assert!(counts("", "check=experimental=InvalidDefinitionDescription", experimental));
    }
}
