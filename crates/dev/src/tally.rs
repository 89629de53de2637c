//! The outcome of test programs: numbers, and the names of failed and skipped tests.

use std::collections::{BTreeMap, BTreeSet};

/// The results of some programs.
#[derive(Debug, Default)]
pub struct Tally {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
    /// The names of failed tests.
    failures: Vec<String>,
    /// Tests and parts of tests that were skipped, by the reason.
    reasons: BTreeMap<String, Vec<String>>,
    /// The tests that reported a skip since the last result. Their program counts them as passed.
    said: BTreeSet<String>,
}

impl Tally {
    /// Counts a line of a test program's output.
    pub fn count(&mut self, line: &str) {
        if let Some((test, reason)) = said(line, "skipped: ") {
            self.said.insert(test.to_owned());
            self.give(test.to_owned(), reason);
        } else if let Some((part, reason)) = said(line, "left out: ") {
            self.give(format!("a part: {part}"), reason);
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.add(result);
        } else if let Some(name) = line.strip_prefix("test ") {
            self.failures.extend(name.strip_suffix(" ... FAILED").map(str::to_owned));
        }
    }

    fn give(&mut self, what: String, reason: &str) {
        self.reasons.entry(reason.to_owned()).or_default().push(what);
    }

    fn add(&mut self, result: &str) {
        let said = std::mem::take(&mut self.said).len();
        let passed = number(result, "passed").unwrap_or(0);
        self.failed += number(result, "failed").unwrap_or(0);
        let ignored = number(result, "ignored").unwrap_or(0);
        // kiln's own harness counts its skips; Rust's counts a skip as a pass.
        let (passed, skipped) = match number(result, "skipped") {
            Some(skipped) => (passed, skipped),
            None => (passed.saturating_sub(said), said + ignored),
        };
        self.passed += passed;
        self.skipped += skipped;
    }

    /// Prints failures, and skips with their reasons.
    pub fn print(&self, who: &str) {
        for name in &self.failures {
            println!("failed as {who}: {name}");
        }
        for (reason, tests) in &self.reasons {
            println!("skipped as {who}: {reason}\n    {}", tests.join(", "));
        }
    }
}

/// `12 passed, 0 failed, 3 skipped`: the sum of all tallies.
pub fn sum<'a>(tallies: impl Iterator<Item = &'a Tally>) -> String {
    let mut sum = [0; 3];
    for tally in tallies {
        for (sum, number) in sum.iter_mut().zip([tally.passed, tally.failed, tally.skipped]) {
            *sum += number;
        }
    }
    let [passed, failed, skipped] = sum;
    format!("{passed} passed, {failed} failed, {skipped} skipped")
}

/// The name and the reason in a line of this kind.
fn said<'a>(line: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let (before, said) = line.split_once(word)?;
    // With one thread, the harness has already begun the line.
    if !before.is_empty() && !before.ends_with(" ... ") {
        return None;
    }
    said.split_once(": ")
}

fn number(result: &str, word: &str) -> Option<usize> {
    let part = result.split([';', '.']).find(|part| part.trim().ends_with(word))?;
    part.trim().split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_test_has_not_passed() {
        let mut tally = Tally::default();
        for line in [
            "skipped: a::b: it needs root",
            "test c ... skipped: c: no git: `apt-get install git`",
            // A loop may report it more than once.
            "skipped: a::b: it needs root",
            "left out: 171-x: it needs root",
            "a line of a program, not skipped: by us",
            "test d ... FAILED",
            "test result: FAILED. 6 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.18s",
            "skipped: root, case: no device",
            "test result: ok. 2 passed; 0 failed; 1 skipped; as root",
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0s",
        ] {
            tally.count(line);
        }
        assert_eq!((tally.passed, tally.failed, tally.skipped), (4 + 2 + 1, 1, 2 + 1 + 1));
        assert_eq!(tally.failures, ["d"]);
        assert_eq!(tally.reasons["it needs root"], ["a::b", "a::b", "a part: 171-x"]);
        assert_eq!(tally.reasons["no git: `apt-get install git`"], ["c"]);
        let both = [tally, Tally { passed: 1, ..Tally::default() }];
        assert_eq!(sum(both.iter()), "8 passed, 1 failed, 4 skipped");
    }
}
