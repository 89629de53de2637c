//! The history of an image, with times that come from its layers.

use layer::Layer;
use oci::History;

/// One entry of a history that is not complete: entries of layers get the layer's time.
pub type HistoryEntry = History;

/// Gives every entry a time, as BuildKit's exporter does: an entry with a layer has its layer's.
/// The first ones without a time get the first time after them, later ones the one before them.
/// Where layers outnumber the entries, entries are added.
pub(crate) fn complete(mut history: Vec<History>, layers: &[Layer]) -> Vec<History> {
    let mut named = history.iter().filter(|entry| !entry.empty_layer).count();
    if named > layers.len() {
        let mut left = layers.len();
        for entry in history.iter_mut().filter(|entry| !entry.empty_layer) {
            entry.empty_layer = left == 0;
            left = left.saturating_sub(1);
        }
        named = layers.len();
    }
    for layer in &layers[named..] {
        history.push(History {
            created: layer.created.clone(),
            comment: "buildkit.exporter.image.v0".into(),
            ..History::default()
        });
    }
    let with_layer = history.iter_mut().filter(|entry| !entry.empty_layer);
    for (entry, layer) in with_layer.zip(layers) {
        if entry.created.is_none() {
            entry.created.clone_from(&layer.created);
        }
    }
    let mut created = first_new_time(&history);
    let mut met_gap = false;
    for entry in &mut history {
        match &entry.created {
            Some(time) if met_gap => created = Some(time.clone()),
            Some(_) => (),
            None => {
                met_gap = true;
                entry.created.clone_from(&created);
            }
        }
    }
    history
}

/// The first time after an entry without one; else the last time there is.
fn first_new_time(history: &[History]) -> Option<String> {
    let mut created = None;
    let mut met_gap = false;
    for entry in history {
        match &entry.created {
            Some(time) => {
                created = Some(time.clone());
                if met_gap {
                    break;
                }
            }
            None => met_gap = true,
        }
    }
    created
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::Digest;

    fn layer(created: &str) -> Layer {
        Layer {
            diff_id: Digest::of(created),
            blob: None,
            created: Some(created.into()),
            places: Vec::new(),
        }
    }

    fn entry(created: Option<&str>, empty_layer: bool) -> History {
        History { created: created.map(Into::into), empty_layer, ..History::default() }
    }

    fn times(history: Vec<History>) -> Vec<String> {
        history.into_iter().map(|entry| entry.created.unwrap_or_default()).collect()
    }

    #[test]
    fn entries_without_a_layer_take_the_first_new_layers_time() {
        let history = vec![
            entry(Some("base"), false),
            entry(None, true),
            entry(None, false),
            entry(None, true),
        ];
        assert_eq!(
            times(complete(history, &[layer("base"), layer("new")])),
            ["base", "new", "new", "new"]
        );
    }

    #[test]
    fn entries_before_the_first_new_layer_take_its_time_and_those_after_a_layer_that_ones() {
        let history = [false, true, false, true, false, true].map(|empty| entry(None, empty));
        let layers = [layer("a"), layer("b"), layer("c")];
        // The second is `b` and not `a`: BuildKit takes the first time after a gap.
        assert_eq!(times(complete(history.into(), &layers)), ["a", "b", "b", "b", "c", "c"]);
    }

    #[test]
    fn entries_that_outnumber_the_layers_lose_theirs() {
        let history = vec![entry(Some("1"), false), entry(Some("2"), false)];
        let history = complete(history, &[layer("a")]);
        assert_eq!([history[0].empty_layer, history[1].empty_layer], [false, true]);
    }

    #[test]
    fn layers_without_an_entry_get_one() {
        assert_eq!(times(complete(Vec::new(), &[layer("a")])), ["a"]);
    }
}
