//! The recorded images and refusals, by name.

use fixtures::Access;
use fixtures::vectors::{self, Verdict};

use crate::{kiln, registry};

#[test]
fn images_are_as_recorded() {
    let Some(registry) = registry("conformance", Access::Open) else { return };
    let cases = vectors::cases(&[]).unwrap();
    let gaps = vectors::known_gaps().unwrap();
    let outcomes = vectors::run(&kiln(), &registry, &cases).unwrap();
    let (mut passed, mut failures) = (0, Vec::new());
    for outcome in &outcomes {
        match (&outcome.verdict, gaps.get(&outcome.name)) {
            (Verdict::Pass, known) => {
                passed += 1;
                if known.is_some() {
                    println!(
                        "{}: comes out as recorded now: remove it from skipped.txt",
                        outcome.name
                    );
                }
            }
            (Verdict::Fail(_), Some(reason)) => {
                fixtures::leave_out(&outcome.name, format!("not covered yet: {reason}"));
            }
            (Verdict::Skipped(reason), _) => {
                fixtures::leave_out(&outcome.name, format!("it needs root: {reason}"));
            }
            (Verdict::Fail(differences), None) => {
                failures.push(format!("{}\n  {}", outcome.name, differences.join("\n  ")));
            }
        }
    }
    fixtures::note(&format!("{passed} of {} cases pass", cases.len()));
    assert!(
        failures.is_empty(),
        "{} cases came out otherwise:\n{}",
        failures.len(),
        failures.join("\n")
    );
}
