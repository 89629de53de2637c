//! The cost of a RUN beyond its command.

use std::time::Instant;

use crate::fixture::Fixture;

/// Measures 60 runs of `true` in sequence, and prints the slowest parts.
pub async fn trivial_runs(fixture: &Fixture) {
    for round in 0..3 {
        let start = Instant::now();
        let mut slowest = std::time::Duration::ZERO;
        for _ in 0..60 {
            let one = Instant::now();
            fixture.says(&fixture.shell("true")).await;
            slowest = slowest.max(one.elapsed());
        }
        println!(
            "round {round}: 60 runs in {:?}, {:?} each, slowest {slowest:?}",
            start.elapsed(),
            start.elapsed() / 60
        );
    }
}
