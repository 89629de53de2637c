//! What a RUN costs beyond its command.

use std::time::Instant;

use crate::fixture::Fixture;

/// 60 runs of `true`, one after the other, and what the slowest parts are.
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
