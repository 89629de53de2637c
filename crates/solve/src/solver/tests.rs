//! The solver on toy steps, with counts of what it asked for.

mod losses;
mod properties;
mod toys;
mod turns;

use graph::{Graph, StepId};

use self::toys::{Memory, ToyError, Toys, build, context, copy, image, merge, run};

const NOTHING: [&str; 0] = [];

/// FROM base; RUN a; RUN b.
fn line() -> (Graph, StepId) {
    let mut graph = Graph::new();
    let base = image(&mut graph, "base");
    let a = run(&mut graph, "a", base);
    let b = run(&mut graph, "b", a);
    (graph, b)
}

/// A stage that a command makes, and a copy of it onto a base.
fn copied(command: &str) -> (Graph, StepId) {
    let mut graph = Graph::new();
    let base = image(&mut graph, "base");
    let tools = image(&mut graph, "tools");
    let made = run(&mut graph, command, tools);
    let copy = copy(&mut graph, "/out", Some(base), made);
    (graph, copy)
}

fn toys(values: &[(&str, &str)]) -> Toys {
    let values = values.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Toys { values: values.collect(), ..Toys::default() }
}

#[test]
fn what_is_cached_is_neither_run_nor_fetched_nor_read() {
    let cache = Memory::default();
    let (graph, target) = copied("make");
    let cold = build(&graph, target, &Toys::default(), &cache);
    assert_eq!(cold.counts.runs, ["tools", "make", "base", "copy /out"]);
    let warm = build(&graph, target, &Toys::default(), &cache);
    assert_eq!(warm.counts, toys::Counts::default());
    assert_eq!(warm.output(), cold.output());
    let solved = warm.result.unwrap();
    assert!(solved.steps.iter().all(|step| !step.ran));
    assert_eq!(solved.steps.last().unwrap().cached.as_deref(), Some("source 0"));
}

#[test]
fn only_what_comes_after_a_change_runs_and_only_its_input_is_fetched() {
    let cache = Memory::default();
    let (graph, target) = line();
    build(&graph, target, &Toys::default(), &cache);
    let mut graph = graph;
    let changed = run(&mut graph, "c", StepId(1));
    let built = build(&graph, changed, &toys(&[]), &cache);
    assert_eq!(built.counts.runs, ["c"]);
    assert_eq!(built.counts.fetches.len(), 1);
}

#[test]
fn the_same_content_from_another_recipe_is_a_hit() {
    let cache = Memory::default();
    let made = [("make", "program"), ("make -j2", "program")];
    let (graph, target) = copied("make");
    let cold = build(&graph, target, &toys(&made), &cache);
    let (graph, target) = copied("make -j2");
    let built = build(&graph, target, &toys(&made), &cache);
    assert_eq!(built.counts.runs, ["tools", "make -j2"]);
    assert_eq!(built.output(), cold.output());
    // The copy is known by the new recipe too: now nothing at all is asked.
    let again = build(&graph, target, &toys(&made), &cache);
    assert_eq!(again.counts, toys::Counts::default());
}

#[test]
fn other_content_is_a_miss() {
    let cache = Memory::default();
    let made = [("make", "program"), ("make -g", "larger program")];
    let (graph, target) = copied("make");
    build(&graph, target, &toys(&made), &cache);
    let (graph, target) = copied("make -g");
    let built = build(&graph, target, &toys(&made), &cache);
    assert_eq!(built.counts.runs, ["tools", "make -g", "base", "copy /out"]);
}

#[test]
fn a_context_counts_by_its_content() {
    let cache = Memory::default();
    let mut graph = Graph::new();
    let base = image(&mut graph, "base");
    let files = context(&mut graph, "context");
    let target = copy(&mut graph, "/src", Some(base), files);
    build(&graph, target, &toys(&[("context", "v1")]), &cache);
    let same = build(&graph, target, &toys(&[("context", "v1")]), &cache);
    assert_eq!(same.counts.runs, ["context"]);
    let changed = build(&graph, target, &toys(&[("context", "v2")]), &cache);
    assert_eq!(changed.counts.runs, ["context", "base", "copy /src"]);
}

#[test]
fn records_without_results_lead_to_those_above() {
    let cache = Memory::default();
    let (graph, target) = line();
    let cold = build(&graph, target, &Toys::default(), &cache);
    cache.keep_only(&[cold.output()]);
    cache.move_away();
    for _ in 0..2 {
        let warm = build(&graph, target, &Toys::default(), &cache);
        assert_eq!(warm.counts.runs, NOTHING);
        assert_eq!(warm.output(), cold.output());
        // The other source's records are known here now, the intermediate one included.
        cache.sources().truncate(1);
    }
}

/// A cache with `mode=min`, or an inline one, has the last stage's results alone.
#[test]
fn stages_without_results_are_not_made_again_for_their_contents() {
    let (mut graph, copied) = copied("make");
    let compiled = run(&mut graph, "compile", copied);
    let files = context(&mut graph, "context");
    let mounted = copy(&mut graph, "/src", Some(compiled), files);
    let target = copy(&mut graph, "/program", None, mounted);
    let cache = Memory::default();
    let cold = build(&graph, target, &Toys::default(), &cache);
    cache.keep_only(&[cold.output()]);
    let warm = build(&graph, target, &Toys::default(), &cache);
    assert_eq!(warm.counts.runs, ["context"]);
    assert_eq!(warm.output(), cold.output());
    // A change in the last stage does not make them needless.
    let changed = copy(&mut graph, "/other", None, mounted);
    let built = build(&graph, changed, &Toys::default(), &cache);
    assert_eq!(built.counts.runs.last().unwrap(), "copy /other");
}

#[test]
fn lookup_goes_on_after_a_miss() {
    let cache = Memory::default();
    let (graph, target) = line();
    let cold = build(&graph, target, &Toys::default(), &cache);
    cache.forget(cold.output());
    let built = build(&graph, target, &Toys::default(), &cache);
    assert_eq!(built.counts.runs, ["b"]);
}

#[test]
fn a_blob_that_is_gone_is_a_miss_and_said_once() {
    let cache = Memory::default();
    let mut graph = Graph::new();
    let base = image(&mut graph, "base");
    let a = run(&mut graph, "a", base);
    let first = build(&graph, a, &Toys::default(), &cache);
    let gone = [first.output().to_owned()].into();
    let (b, c) = (run(&mut graph, "b", a), run(&mut graph, "c", a));
    let both = merge(&mut graph, &[b, c]);
    let toys = Toys { gone, ..Toys::default() };
    let built = build(&graph, both, &toys, &cache);
    assert_eq!(built.result.as_ref().map_err(ToString::to_string).map(drop), Ok(()));
    let mut runs = built.counts.runs.clone();
    runs.sort();
    assert_eq!(runs, ["a", "b", "base", "c", "merge"]);
    assert!(built.counts.fetches.contains(&"base".to_owned()), "the input of what runs again");
    let warnings = built.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("records of source 0 cannot be used, their steps run: `"),
        "{warnings:?}"
    );
}

#[test]
fn content_of_what_is_gone_is_made_again() {
    let cache = Memory::default();
    let (mut graph, target) = copied("make");
    build(&graph, target, &toys(&[("make", "program")]), &cache);
    let made = graph.step(target).inputs[1];
    let copy = copy(&mut graph, "/elsewhere", Some(StepId(0)), made);
    let toys = Toys { gone: ["program".to_owned()].into(), ..toys(&[("make", "program")]) };
    let built = build(&graph, copy, &toys, &cache);
    assert_eq!(built.counts.runs, ["tools", "make", "base", "copy /elsewhere"]);
    assert_eq!(built.warnings().len(), 1);
}

#[test]
fn a_path_that_is_not_there_is_the_fault_of_who_asks() {
    let cache = Memory::default();
    let (mut graph, target) = copied("make");
    build(&graph, target, &Toys::default(), &cache);
    let made = graph.step(target).inputs[1];
    let copy = copy(&mut graph, "/missing", Some(StepId(0)), made);
    let built = build(&graph, copy, &Toys::default(), &cache);
    let error = built.result.as_ref().map(drop).unwrap_err();
    assert_eq!((error.step, &error.source), (copy, &ToyError::NotFound("/missing".into())));
    assert_eq!(error.to_string(), format!("step {} cannot run", copy.0));
    // The record's bytes are there: what made them does not run again.
    assert_eq!(built.counts.runs, NOTHING);
    assert_eq!(built.warnings(), NOTHING);
}

#[test]
fn a_base_that_is_gone_is_the_fault_of_its_step() {
    let (graph, target) = line();
    // An image's bytes stay where they are until a command needs them.
    let toys = Toys { gone: ["base".to_owned()].into(), never_here: true, ..Toys::default() };
    let built = build(&graph, target, &toys, &Memory::default());
    let error = built.result.as_ref().map(drop).unwrap_err();
    assert_eq!((error.step, &error.source), (StepId(0), &ToyError::Gone("base".into())));
    let said = built.said(StepId(0));
    assert!(said[0] == "Started" && said[1].contains("`base` is gone"), "{said:?}");
}

#[test]
fn the_bytes_of_an_image_move_under_its_own_step() {
    let (graph, target) = line();
    let cache = Memory::default();
    let cold = build(&graph, target, &Toys::default(), &cache);
    assert_eq!(cold.said(StepId(0)), ["Started", "Done"]);
    let warm = build(&graph, target, &Toys::default(), &cache);
    assert_eq!(warm.said(StepId(0)), ["Cached(\"key\")"]);
    assert_eq!(warm.said(StepId(1)), ["Cached(\"source 0\")"]);
}

#[test]
fn the_newest_result_comes_first() {
    let cache = Memory::default();
    let (graph, target) = line();
    build(&graph, target, &Toys::default(), &cache);
    let set = |results: &[(&str, &str)]| {
        let record = &mut cache.sources()[0];
        let results = results.iter().map(|(value, time)| ((*value).into(), (*time).into()));
        record.last_mut().unwrap().results = results.collect();
    };
    for results in [
        // Go leaves the final zeros of a fraction out.
        [("old", "2026-01-01T00:00:00Z"), ("new", "2026-01-01T00:00:00.5Z")],
        [("old", "2026-01-01T00:00:00.1Z"), ("new", "2026-01-01T00:00:00.15Z")],
        [("old", "2026-01-01T00:00:00.999Z"), ("new", "2026-01-01T00:00:01Z")],
        [("old", "2026-01-01T01:30:00+02:00"), ("new", "2026-01-01T00:00:00Z")],
        [("old", ""), ("new", "1970-01-01T00:00:00Z")],
        [("old", "9999-99-99"), ("new", "2026-01-01T00:00:00Z")],
    ] {
        for order in [[0, 1], [1, 0]] {
            set(&order.map(|index| results[index]));
            let built = build(&graph, target, &Toys::default(), &cache);
            assert_eq!(built.output(), "new", "{results:?}");
        }
    }
    // The next one serves where the newest is gone.
    let mut graph = graph;
    let more = run(&mut graph, "more", target);
    let toys = Toys { gone: ["new".to_owned()].into(), ..Toys::default() };
    let built = build(&graph, more, &toys, &cache);
    assert_eq!(built.counts.runs, ["more"]);
    assert_eq!(built.counts.fetches, ["new", "old"]);
    assert_eq!(built.warnings().len(), 1);
}

#[test]
fn any_source_serves_and_this_machine_keeps_what_others_know() {
    let cache = Memory::default();
    let (graph, target) = line();
    let cold = build(&graph, target, &Toys::default(), &cache);
    cache.move_away();
    let (other, other_target) = copied("make");
    let other_cold = build(&other, other_target, &Toys::default(), &cache);
    cache.move_away();
    for _ in 0..2 {
        let warm = build(&graph, target, &Toys::default(), &cache);
        assert_eq!((warm.counts.runs.len(), warm.output()), (0, cold.output()));
        let warm = build(&other, other_target, &Toys::default(), &cache);
        assert_eq!((warm.counts.runs.len(), warm.output()), (0, other_cold.output()));
        cache.sources().truncate(1);
    }
}

#[test]
fn contents_that_another_source_knows_are_kept_here() {
    let cache = Memory::default();
    let made = [("make", "program"), ("make -j2", "program")];
    let (graph, target) = copied("make");
    build(&graph, target, &toys(&made), &cache);
    cache.move_away();
    build(&graph, target, &toys(&made), &cache);
    cache.sources().truncate(1);
    // Only the content says that this is the same.
    let (graph, target) = copied("make -j2");
    let built = build(&graph, target, &toys(&made), &cache);
    assert_eq!(built.counts.runs, ["tools", "make -j2"]);
}

#[test]
fn what_ignores_the_cache_runs_and_is_kept() {
    let cache = Memory::default();
    let (mut graph, target) = line();
    build(&graph, target, &Toys::default(), &cache);
    graph.step_mut(target).ignore_cache = true;
    let built = build(&graph, target, &toys(&[("b", "fresh")]), &cache);
    assert_eq!(built.counts.runs, ["b"]);
    graph.step_mut(target).ignore_cache = false;
    let built = build(&graph, target, &Toys::default(), &cache);
    assert_eq!((built.counts.runs.len(), built.output()), (0, "fresh"));
}

#[test]
fn what_stands_on_a_step_that_ignores_the_cache_is_known_by_content_alone() {
    let cache = Memory::default();
    let mut graph = Graph::new();
    let base = image(&mut graph, "base");
    let stage = run(&mut graph, "stage", base);
    let on_it = run(&mut graph, "on it", stage);
    let first = copy(&mut graph, "/a", Some(base), stage);
    let target = copy(&mut graph, "/b", Some(first), on_it);
    build(&graph, target, &Toys::default(), &cache);
    graph.step_mut(stage).ignore_cache = true;
    // They make the same output, so the copies are found.
    let built = build(&graph, target, &Toys::default(), &cache);
    assert_eq!(built.counts.runs, ["base", "stage", "on it"]);
}

#[test]
fn steps_that_are_one_run_once() {
    let mut graph = Graph::new();
    let base = image(&mut graph, "base");
    // By step: two readers of one. By key: two steps that say the same.
    let (a, same) = (run(&mut graph, "a", base), run(&mut graph, "a", base));
    let (b, c) = (run(&mut graph, "b", a), run(&mut graph, "c", a));
    let target = merge(&mut graph, &[b, c, same]);
    let built = build(&graph, target, &Toys::default(), &Memory::default());
    let mut runs = built.counts.runs.clone();
    runs.sort();
    assert_eq!(runs, ["a", "b", "base", "c", "merge"]);
    let ran = built.result.unwrap().steps.iter().filter(|step| step.ran).count();
    assert_eq!(ran, 4, "of two steps that are one only one ran");
}

#[test]
fn a_step_with_the_key_of_its_own_input_does_not_wait_for_itself() {
    // fmt(fmt(source)): the inner run changes nothing that the outer one reads.
    let mut graph = Graph::new();
    let source = context(&mut graph, "source");
    let inner = copy(&mut graph, "/fmt", None, source);
    let outer = copy(&mut graph, "/fmt", None, inner);
    let values = [("source", "code"), ("copy /fmt", "code")];
    let cache = Memory::default();
    for runs in [&["source", "copy /fmt"][..], &["source"]] {
        let built = build(&graph, outer, &toys(&values), &cache);
        assert_eq!(built.output(), "code");
        assert_eq!(built.counts.runs, runs);
    }
    cache.forget("code");
    let built = build(&graph, outer, &toys(&values), &cache);
    assert_eq!(built.counts.runs, ["source", "copy /fmt"]);
}

#[test]
fn a_failure_names_its_step_and_ends_the_others() {
    let mut graph = Graph::new();
    let base = image(&mut graph, "base");
    let (endless, failing) = (run(&mut graph, "endless", base), run(&mut graph, "failing", base));
    let target = merge(&mut graph, &[endless, failing]);
    let toys = Toys {
        endless: ["endless".to_owned()].into(),
        failing: ["failing".to_owned()].into(),
        ..Toys::default()
    };
    let built = build(&graph, target, &toys, &Memory::default());
    let error = built.result.as_ref().map(drop).unwrap_err();
    assert_eq!((error.step, &error.source), (failing, &ToyError::Failed));
    assert_eq!(built.said(endless), ["Started", "Failed(Canceled)"]);
    assert_eq!(built.said(failing), ["Started", "Failed(Error(\"exit code 1\"))"]);
}

#[test]
fn of_steps_that_may_not_run_the_lowest_is_told() {
    let cache = Memory::default();
    let (mut graph, cached) = copied("make");
    build(&graph, cached, &Toys::default(), &cache);
    let changed = run(&mut graph, "changed", cached);
    let files = merge(&mut graph, &[changed]);
    let target = run(&mut graph, "more", files);
    let refused = |steps: &[StepId]| {
        let toys = Toys { refused: steps.iter().copied().collect(), ..Toys::default() };
        let built = build(&graph, target, &toys, &cache);
        (built.result.map(drop).unwrap_err().step, built.counts.runs)
    };
    // A cached step need not run, and is not refused.
    assert_eq!(refused(&[cached, changed, target]), (changed, Vec::new()));
    assert_eq!(refused(&[target]), (target, Vec::new()));
}

#[test]
fn a_long_chain_needs_little_stack() {
    let cache = Memory::default();
    let mut graph = Graph::new();
    let mut top = image(&mut graph, "base");
    for number in 0..600 {
        top = run(&mut graph, &format!("step {number}"), top);
    }
    let solve = || build(&graph, top, &Toys::default(), &cache).counts.runs.len();
    // The stack size of a runtime's thread.
    let solved = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(4 << 20);
        thread.spawn_scoped(scope, || [solve(), solve()]).unwrap().join().unwrap()
    });
    assert_eq!(solved, [601, 0]);
}
