use layer::{Chain, Layer};

use super::*;
use crate::format::plan::{PlannedRecord, RecordDraft};
use crate::format::{CacheDocuments, Form, order};

/// A base, and `count` steps that stand on it, each used on a day of its own from 1000 on.
fn plan(count: u32) -> (CachePlan, HashMap<Digest, Descriptor>) {
    let mut plan = CachePlan::default();
    let mut blobs = HashMap::new();
    let base = plan.insert(RecordDraft {
        digest: Digest::of("base"),
        inputs: Vec::new(),
        output: None,
        used: None,
    });
    for number in 0..count {
        let name = number.to_string();
        let layer =
            Layer { diff_id: Digest::of(&name), blob: None, created: None, places: Vec::new() };
        let chain = Chain::new().with(layer);
        blobs.extend(chain.id().map(|id| (id, Descriptor::new("layer", Digest::of(&name), 10))));
        plan.insert(RecordDraft {
            digest: Digest::of(&name),
            inputs: vec![[(None, base)].into()],
            output: Some((&chain, "1972-09-27T00:00:00Z".into())),
            used: Some(1000 + number),
        });
    }
    (plan, blobs)
}

fn size(plan: &CachePlan, blobs: &HashMap<Digest, Descriptor>) -> usize {
    let contents = order::contents(plan, blobs);
    CacheDocuments::with_manifest(&contents, Form::ImageManifest).unwrap().largest()
}

fn days(plan: &CachePlan) -> Vec<Day> {
    plan.records.iter().filter_map(|record: &PlannedRecord| record.used).collect()
}

#[test]
fn a_small_cache_stays_whole() {
    let (mut plan, blobs) = plan(10);
    let fitted = fit(&mut plan, &blobs, Some(2000), |plan| Ok::<_, ()>(size(plan, &blobs)));
    assert_eq!((fitted, plan.records.len()), (Ok(None), 11));
}

#[test]
fn what_was_not_used_for_longest_makes_room() {
    let (mut plan, blobs) = plan(6000);
    assert!(size(&plan, &blobs) > BUILDKIT_LIMIT);
    let pruned = fit(&mut plan, &blobs, Some(7100), |plan| Ok::<_, ()>(size(plan, &blobs)));
    let pruned = pruned.unwrap().unwrap();
    let after = size(&plan, &blobs);
    assert!(after <= BUILDKIT_LIMIT - ROOM && after > BUILDKIT_LIMIT / 2, "{after}");
    assert_eq!(plan.records.len() + pruned.records, 6001);
    assert_eq!((pruned.layers, pruned.bytes), (pruned.records, pruned.records as u64 * 10));
    let days = days(&plan);
    assert_eq!(days.iter().min().unwrap() - 1, pruned.unused_since.unwrap());
    assert_eq!(days.iter().max(), Some(&6999));
    let note = pruned.note(Some(7100));
    let age = 7100 - pruned.unused_since.unwrap();
    assert!(note.contains(&format!("not used for {age} days or more")), "{note}");
}

#[test]
fn what_a_build_used_stays() {
    let (mut plan, blobs) = plan(6000);
    let fitted = fit(&mut plan, &blobs, Some(1000), |plan| Ok::<_, ()>(size(plan, &blobs)));
    assert_eq!((fitted, plan.records.len()), (Ok(None), 6001));
}

#[test]
fn what_leads_to_a_record_in_use_is_in_use() {
    let (plan, _) = plan(3);
    assert_eq!(last_uses(&plan), [Some(1002), Some(1000), Some(1001), Some(1002)]);
}
