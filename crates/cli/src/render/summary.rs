//! The lines after a build that ended well.

use std::sync::Arc;

use build::Outcome;

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
    format!("{steps}; {moved}\n")
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
        assert_eq!(warnings(&["a".into()]), "\n 1 warning found:\n - a\n");
        assert_eq!(warnings(&["a".into(), "b".into()]), "\n 2 warnings found:\n - a\n - b\n");
    }
}
