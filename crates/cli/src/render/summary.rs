//! The lines after a successful build.

use std::sync::Arc;

use build::{Explained, Outcome};

use crate::human;
use crate::progress::sanitize;

/// One line: steps that were cached and that ran, and the bytes moved.
pub fn summary(outcome: &Outcome) -> String {
    let traffic = outcome.traffic;
    let steps = match (outcome.cached, outcome.ran) {
        (cached, 0) => format!("{cached} steps cached, none ran"),
        (cached, ran) => format!("{cached} steps cached, {ran} ran"),
    };
    let moved = match traffic.requests {
        0 => "nothing moved over the network".into(),
        requests => format!(
            "{} down, {} up in {requests} request{}",
            human::size(traffic.down),
            human::size(traffic.up),
            if requests == 1 { "" } else { "s" },
        ),
    };
    let not_needed = match outcome.not_needed {
        0 => String::new(),
        bytes => format!("; {} of layers not needed", human::size(bytes)),
    };
    format!("{steps}; {moved}{not_needed}\n")
}

/// The reasons why steps ran, or with `would` the reasons why they would: a line for each step,
/// with the differences under it.
pub fn explained(steps: &[Explained], would: bool) -> String {
    let (verb, none) = match would {
        true => ("would run", "Every step would be cached.\n"),
        false => ("ran", "Every step was cached.\n"),
    };
    if steps.is_empty() {
        return none.into();
    }
    let count = if steps.len() == 1 { "1 step".into() } else { format!("{} steps", steps.len()) };
    let mut text = format!("Why {count} {verb}:\n");
    for step in steps {
        text.push_str(&format!("  {}\n", sanitize(&step.step)));
        for line in step.reason.lines() {
            text.push_str(&format!("    {}\n", sanitize(&line)));
        }
    }
    text
}

/// The list of warnings, in buildx' form; empty if there are none.
pub fn warnings(warnings: &[Arc<str>]) -> String {
    let mut text = match warnings.len() {
        0 => return String::new(),
        1 => "\n 1 warning found:\n".to_owned(),
        count => format!("\n {count} warnings found:\n"),
    };
    for warning in warnings {
        text.push_str(&format!(" - {}\n", sanitize(warning)));
    }
    text
}

#[cfg(test)]
mod tests {
    use build::Traffic;

    use super::*;

    #[test]
    fn reasons_stand_under_their_steps() {
        let step = |step: &str, reason| Explained { step: step.into(), reason };
        let steps = [
            step("[2/3] COPY . .", build::Reason::Unknown),
            step("[3/3] RUN make", build::Reason::StandsOn("[2/3] COPY . .\x1b[2J".into())),
        ];
        assert_eq!(
            explained(&steps, false),
            "Why 2 steps ran:\n  [2/3] COPY . .\n    nothing is known of a step like it\n  \
             [3/3] RUN make\n    stands on [2/3] COPY . ., which is not cached\n"
        );
        assert_eq!(explained(&[], true), "Every step would be cached.\n");
    }

    #[test]
    fn a_build_in_a_line() {
        let mut outcome = Outcome { cached: 12, ..Outcome::default() };
        assert_eq!(
            summary(&outcome),
            "12 steps cached, none ran; nothing moved over the network\n"
        );
        outcome.ran = 2;
        outcome.traffic = Traffic { requests: 14, down: 4_100_000, up: 12_000 };
        assert_eq!(
            summary(&outcome),
            "12 steps cached, 2 ran; 4.1MB down, 12kB up in 14 requests\n"
        );
        outcome.not_needed = 160_000_000;
        assert_eq!(
            summary(&outcome),
            "12 steps cached, 2 ran; 4.1MB down, 12kB up in 14 requests; 160MB of layers not needed\n"
        );
        assert_eq!(warnings(&["a".into()]), "\n 1 warning found:\n - a\n");
        assert_eq!(warnings(&["a".into(), "b".into()]), "\n 2 warnings found:\n - a\n - b\n");
    }
}
