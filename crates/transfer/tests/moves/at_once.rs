//! Several builds on one store that want the same layers.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use graph::{Event, Events, TaskEvent};
use layer::{EntryKind, Layer};
use store::{Turn, TurnAnswer, TurnEnd};
use transfer::{Destination, Transfer, lost_layers};

use crate::{World, archive, file, layer, link, soon};

/// Movers of builds of their own.
fn movers(world: &World) -> Vec<Transfer> {
    (0..8).map(|_| world.transfer.afresh()).collect()
}

/// The turn at a layer, as another build has it.
fn turn(world: &World, layer: &Layer) -> Turn {
    let blob = layer.blob.as_ref().unwrap().digest;
    match world.store().turn(&format!("layer {blob}")).ask() {
        TurnAnswer::Own(turn) => turn,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_layer_comes_once_for_all_builds() {
    for keeps in [false, true] {
        let world = World::new();
        let content = "0123456789abcdef".repeat(64 << 10);
        let put = |number| world.put("app", &file(&format!("f{number}"), &content));
        let chain: Vec<Layer> = (0..5).map(put).collect();
        let movers = movers(&world);
        if keeps {
            movers.iter().for_each(|mover| mover.keep_for(Destination::Elsewhere));
        }
        for result in soon(join_all(movers.iter().map(|mover| mover.unpack(&chain, None)))).await {
            result.unwrap();
        }
        if keeps {
            let fetches = movers
                .iter()
                .flat_map(|mover| chain.iter().map(|layer| mover.fetch_blob(layer, None)));
            join_all(fetches).await.into_iter().for_each(|result| drop(result.unwrap()));
        }
        for layer in &chain {
            assert_eq!(world.asked(&layer.diff_id.to_string()), 1, "{keeps}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_blob_comes_once_for_all_builds() {
    let world = World::new();
    let layer = world.put("app", &file("f", &"x".repeat(1 << 20)));
    let movers = movers(&world);
    let fetches = movers.iter().map(|mover| mover.fetch_blob(&layer, None));
    soon(join_all(fetches)).await.into_iter().for_each(|result| drop(result.unwrap()));
    assert_eq!(world.asked("/blobs/"), 1);
}

/// Two layers with hard links to each other's files, which are below each other in two images.
#[tokio::test(flavor = "multi_thread")]
async fn layers_that_wait_for_each_other_crosswise_are_unpacked() {
    for _ in 0..10 {
        let world = World::new();
        let file = |path| (path, EntryKind::File { size: 1 }, "x");
        let link = |path, target: &str| {
            (path, EntryKind::HardLink { target: target.as_bytes().into() }, "")
        };
        let base = world.put("app", &archive(&[file("one"), file("two")]));
        let one = world.put("app", &archive(&[link("a", "two"), file("one")]));
        let two = world.put("app", &archive(&[link("b", "one"), file("two")]));
        let chains =
            [[base.clone(), one.clone(), two.clone()], [base.clone(), two.clone(), one.clone()]];
        let movers = movers(&world);
        let unpacked = movers
            .iter()
            .enumerate()
            .map(|(number, mover)| mover.unpack(&chains[number % 2], None));
        soon(join_all(unpacked)).await.into_iter().for_each(Result::unwrap);
        assert_eq!(world.content(&one, "a"), "x");
        assert_eq!(world.content(&two, "b"), "x");
    }
}

/// The waits that progress shows, each with whether it is over.
fn waits(log: &Mutex<Vec<Event>>) -> Vec<bool> {
    let wait = |event: &Event| match &event.what {
        TaskEvent::Transfer(part) if part.name.starts_with("waiting for another build") => {
            Some(part.completed.is_some())
        }
        _ => None,
    };
    log.lock().unwrap().iter().filter_map(wait).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_says_so_and_can_leave() {
    let log: Arc<Mutex<Vec<Event>>> = Arc::default();
    let (sink, said) = (log.clone(), Arc::new(tokio::sync::Notify::new()));
    let saying = said.clone();
    let events = Events::new(move |event| {
        sink.lock().unwrap().push(event);
        saying.notify_one();
    });
    let task = Some(events.task("pull", Vec::new()));
    let world = World::with(events);
    let layer = world.put("app", &file("f", "content"));
    let chain = std::slice::from_ref(&layer);
    for has_made in [false, true] {
        log.lock().unwrap().clear();
        let held = turn(&world, &layer);
        let mover = world.transfer.afresh();
        let mut unpacking = Box::pin(mover.unpack(chain, task));
        while waits(&log).is_empty() {
            tokio::select! {
                result = &mut unpacking => panic!("{result:?}"),
                () = said.notified() => (),
            }
        }
        drop(unpacking);
        assert_eq!(waits(&log), [false, true]);
        assert_eq!(world.asked("/blobs/"), 0);
        match has_made {
            true => held.end(TurnEnd::Failed),
            false => drop(held),
        }
        // The turn is free now.
        turn(&world, &layer).end(TurnEnd::Made);
    }
    soon(world.transfer.unpack(chain, task)).await.unwrap();
    assert_eq!(world.asked("/blobs/"), 1);
}

/// A layer that no place has is asked for by each build, and each says that it is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_everybodys_own() {
    let world = World::new();
    let missing = layer(&file("f", ""), vec![world.place("app")]);
    let above = world.put("app", &link("l", "f"));
    let chain = [missing.clone(), above];
    let movers = movers(&world);
    let unpacked = soon(join_all(movers.iter().map(|mover| mover.unpack(&chain, None)))).await;
    for result in unpacked {
        assert_eq!(lost_layers(&result.unwrap_err()), [missing.diff_id]);
    }
}
