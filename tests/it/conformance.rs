//! Every recorded image and refusal, by name.

use fixtures::Access;
use fixtures::vectors::{self, Verdict};

use crate::{kiln, registry};

#[test]
fn images_are_as_recorded() {
    let Some(registry) = registry("conformance", Access::Open) else { return };
    let cases = vectors::cases(&[]).unwrap();
    let gaps = vectors::known_gaps().unwrap();
    for name in gaps.keys() {
        assert!(
            cases.iter().any(|case| case.name == *name),
            "skipped.txt names `{name}`, which is no case"
        );
    }
    let outcomes = vectors::run(&kiln(), &registry, &cases);
    let (mut passed, mut failures, mut skipped) = (0, Vec::new(), 0);
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
            (Verdict::Fail(_), Some(reason)) => fixtures::skip(&outcome.name, reason),
            (Verdict::Skipped(_), _) => skipped += 1,
            (Verdict::Fail(differences), None) => {
                failures.push(format!("{}\n  {}", outcome.name, differences.join("\n  ")));
            }
        }
    }
    if skipped > 0 {
        fixtures::skip("conformance", &format!("{skipped} cases need root"));
    }
    fixtures::note(&format!("{passed} of {} cases pass", cases.len()));
    assert!(
        failures.is_empty(),
        "{} cases came out otherwise:\n{}",
        failures.len(),
        failures.join("\n")
    );
}
