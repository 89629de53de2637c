//! Over random graphs and one shared cache: a cached answer is the uncached one, and a clean
//! rebuild runs nothing.

use graph::{Graph, StepId};
use proptest::prelude::*;

use super::toys::{Memory, Toys, build, context, copy, image, merge, run};

/// A step to be added: its kind, which text it has, and which of the steps before it reads.
pub(super) type Recipe = (u8, u8, usize, usize);

pub(super) fn graph_of(recipes: &[Recipe]) -> (Graph, StepId) {
    let mut graph = Graph::new();
    let mut steps =
        vec![image(&mut graph, "base"), image(&mut graph, "tools"), context(&mut graph, "context")];
    let files = steps[2];
    for (kind, text, a, b) in recipes {
        let (a, b) = (steps[a % steps.len()], steps[b % steps.len()]);
        // A context has no key of its own: it is only ever read by content.
        let a = if a == files { steps[0] } else { a };
        let b = if b == files && kind % 5 == 4 { steps[1] } else { b };
        let text = ["x", "y", "z"][usize::from(text % 3)];
        steps.push(match kind % 5 {
            0 | 1 => run(&mut graph, text, a),
            2 => copy(&mut graph, "/all", Some(a), b),
            3 => copy(&mut graph, "/low", (text != "x").then_some(a), b),
            _ => merge(&mut graph, &[a, b]),
        });
    }
    let above = steps.split_off(3);
    let target = merge(&mut graph, &above);
    (graph, target)
}

fn toys(context: u8) -> Toys {
    Toys {
        values: [("context".to_owned(), format!("files {}", context % 3))].into(),
        ..Toys::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn a_cache_never_changes_the_answer(
        builds in prop::collection::vec(
            (prop::collection::vec(any::<Recipe>(), 1..9), any::<u8>(), any::<bool>()),
            1..6,
        ),
    ) {
        let cache = Memory::default();
        for (recipes, files, moved) in builds {
            let (graph, target) = graph_of(&recipes);
            let plain = build(&graph, target, &toys(files), &Memory::default());
            let cached = build(&graph, target, &toys(files), &cache);
            prop_assert_eq!(cached.output(), plain.output());
            let again = build(&graph, target, &toys(files), &cache);
            prop_assert_eq!(again.output(), plain.output());
            let ran: Vec<_> = again.counts.runs.iter().filter(|step| *step != "context").collect();
            prop_assert_eq!(ran, Vec::<&String>::new());
            if moved {
                cache.move_away();
            }
        }
    }
}
