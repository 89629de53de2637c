use super::*;

fn digest(text: &str) -> Digest {
    Digest::of(text)
}

fn chain(names: &[&str]) -> Chain {
    names
        .iter()
        .map(|name| Layer { diff_id: digest(name), blob: None, created: None, places: Vec::new() })
        .collect()
}

fn root(plan: &mut CachePlan, name: &str) -> usize {
    plan.insert(RecordDraft { digest: digest(name), inputs: Vec::new(), output: None, used: None })
}

/// A record of `name` with one input that is known by all of `links`; its output was made at
/// `second`.
fn record(
    plan: &mut CachePlan,
    name: &str,
    links: &[CacheInput],
    output: &str,
    second: u32,
) -> usize {
    let chain = chain(&[output]);
    plan.insert(RecordDraft {
        digest: digest(name),
        inputs: vec![links.iter().copied().collect()],
        output: Some((&chain, format!("2026-01-01T00:00:{second:02}Z"))),
        used: None,
    })
}

fn output(plan: &CachePlan, at: usize) -> Option<Digest> {
    plan.records[at].output.as_ref().map(|(chain, _)| *chain)
}

#[test]
fn records_with_a_link_in_common_are_one() {
    let mut plan = CachePlan::default();
    let (by_manifest, by_layers) = (root(&mut plan, "manifest"), root(&mut plan, "layers"));
    let part = Some(digest("/"));
    let first = record(&mut plan, "run", &[(part, by_manifest)], "out", 1);
    let second = record(&mut plan, "run", &[(part, by_manifest), (part, by_layers)], "out", 1);
    assert_eq!((first, plan.records.len()), (second, 3));
    assert_eq!(plan.records[first].inputs[0].len(), 2);
    // By the new link alone it is found again.
    assert_eq!(record(&mut plan, "run", &[(part, by_layers)], "out", 1), first);
    // Another part, another record.
    assert_ne!(record(&mut plan, "run", &[(None, by_manifest)], "out", 1), first);
}

#[test]
fn what_is_there_already_changes_nothing() {
    let mut plan = CachePlan::default();
    let base = root(&mut plan, "base");
    record(&mut plan, "run", &[(None, base)], "out", 5);
    plan.settle();
    root(&mut plan, "base");
    record(&mut plan, "run", &[(None, base)], "out", 5);
    record(&mut plan, "run", &[(None, base)], "older", 4);
    // Two steps can make one layer, and a cache says one time of it.
    record(&mut plan, "run", &[(None, base)], "out", 6);
    assert!(!plan.is_changed());
    let run = record(&mut plan, "run", &[(None, base)], "newer", 6);
    assert!(plan.is_changed());
    assert_eq!(output(&plan, run), chain(&["newer"]).id());
    assert_eq!(plan.chains().len(), 1, "the older layer is not needed");
}

#[test]
fn a_layer_that_was_made_again_is_written_again() {
    let mut plan = CachePlan::default();
    let base = root(&mut plan, "base");
    record(&mut plan, "run", &[(None, base)], "out", 5);
    plan.settle();
    let out = chain(&["out"]);
    plan.keep_chain(&out, &HashSet::new());
    assert!(!plan.is_changed());
    plan.keep_chain(&out, &out.id().into_iter().collect());
    assert!(plan.is_changed(), "what the cache has of it may be gone");
}

/// `fetch` makes something else each time, and `copy` reads it.
#[test]
fn records_that_read_other_contents_stay_apart() {
    let mut plan = CachePlan::default();
    let fetch = root(&mut plan, "fetch");
    let (monday, tuesday) = (root(&mut plan, "monday"), root(&mut plan, "tuesday"));
    let part = Some(digest("/file"));
    let first = record(&mut plan, "copy", &[(part, fetch), (None, monday)], "monday's", 1);
    let second = record(&mut plan, "copy", &[(part, fetch), (None, tuesday)], "tuesday's", 2);
    assert_ne!(first, second);
    assert_eq!(output(&plan, first), chain(&["monday's"]).id());
    // One that does not say what it read is one of the two only if it made the same.
    assert_eq!(record(&mut plan, "copy", &[(part, fetch)], "tuesday's", 2), second);
    let third = record(&mut plan, "copy", &[(part, fetch)], "wednesday's", 3);
    assert!(third != first && third != second);
}

#[test]
fn nothing_stands_on_itself() {
    let mut plan = CachePlan::default();
    let base = root(&mut plan, "base");
    let once = record(&mut plan, "format", &[(None, base)], "formatted", 1);
    let above = record(&mut plan, "above", &[(Some(digest("/")), once)], "top", 1);
    let again = plan.insert(RecordDraft {
        digest: digest("format"),
        inputs: vec![[(None, base), (None, once), (None, above)].into()],
        output: None,
        used: None,
    });
    assert_eq!(again, once);
    assert_eq!(plan.records[once].inputs[0], [(None, base)].into());
    assert_eq!(plan.order().len(), 3);
}

#[test]
fn a_use_is_written_again_when_it_is_old() {
    let mut plan = CachePlan::default();
    let used = |plan: &mut CachePlan, used| {
        plan.insert(RecordDraft { digest: digest("x"), inputs: Vec::new(), output: None, used })
    };
    used(&mut plan, None);
    plan.settle();
    used(&mut plan, Some(100));
    assert!(!plan.is_changed(), "others do not write uses, and a use alone is not worth a cache");
    used(&mut plan, Some(106));
    assert!(!plan.is_changed());
    used(&mut plan, Some(113));
    assert!(plan.is_changed());
    assert_eq!(plan.records[0].used, Some(113));
}

#[test]
fn what_is_taken_out_takes_what_stands_on_it_along() {
    let mut plan = CachePlan::default();
    let (one, other) = (root(&mut plan, "one"), root(&mut plan, "other"));
    let low = record(&mut plan, "low", &[(None, one)], "low", 1);
    let high = record(&mut plan, "high", &[(None, low)], "high", 1);
    record(&mut plan, "both", &[(None, one), (None, other)], "both", 1);
    plan.retain(&[other, low, high, 4].into());
    let names: Vec<Digest> = plan.records.iter().map(|record| record.digest).collect();
    assert_eq!(names, [digest("other"), digest("both")]);
    assert_eq!(plan.records[1].inputs[0], [(None, 0)].into());
    assert_eq!(plan.chains().len(), 1);
}

#[test]
fn outputs_with_a_lost_layer_are_forgotten_and_their_records_stay() {
    let mut plan = CachePlan::default();
    let base = root(&mut plan, "base");
    let blob = |name: &str| Some(oci::Descriptor::of("layer", name.as_bytes()));
    let layer = |name: &str| Layer {
        diff_id: digest(name),
        blob: blob(name),
        created: None,
        places: Vec::new(),
    };
    let mut add = |name: &str, layers: &[&str]| {
        let chain: Chain = layers.iter().map(|name| layer(name)).collect();
        plan.insert(RecordDraft {
            digest: digest(name),
            inputs: vec![[(None, base)].into()],
            output: Some((&chain, String::new())),
            used: None,
        })
    };
    let (low, high, other) = (add("low", &["a"]), add("high", &["a", "b"]), add("other", &["b"]));
    plan.settle();
    plan.forget(|_, _| false);
    assert!(!plan.is_changed());
    let lost = digest("a");
    plan.forget(|_, blob| blob == lost);
    assert!(plan.is_changed());
    assert_eq!((output(&plan, low), output(&plan, high)), (None, None));
    assert_eq!(output(&plan, other), chain(&["b"]).id());
    assert_eq!((plan.records.len(), plan.chains().len()), (4, 1));
}
