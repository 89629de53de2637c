//! Images with fewer layers than steps. What each step makes is kept and cached on its own all the same: only the
//! image's layers are put together.

use export::Image;
use graph::{LineRange, StepId};
use layer::Chain;

use crate::frontend::bases::{Bases, PlatformTarget};
use crate::request::Layers;
use crate::solving::SolvedGraph;
use crate::{Error, Request};

/// Puts the layers of an image together as it was asked for.
///
/// # Errors
/// If a layer cannot be found, or the new one cannot be written.
pub(crate) async fn fold(
    request: &Request,
    bases: &Bases,
    solved: &SolvedGraph<'_>,
    (target, chain): (&PlatformTarget, &Chain),
    image: &mut Image,
) -> Result<(), Error> {
    let own = image.layers.len().saturating_sub(image.base_layers);
    let ends = match request.layers {
        Layers::Each | Layers::Unmarked => return Ok(()),
        Layers::One => vec![own],
        Layers::Marked => ends(&lines(bases, target.result, own), &bases.marked),
    };
    let below = prefixes(chain);
    let mut layers = image.layers[..image.base_layers].to_vec();
    let mut from = 0;
    for end in ends.iter().copied().filter(|end| *end > 0) {
        let (bottom, top) = (image.base_layers + from, image.base_layers + end);
        layers.push(match top - bottom {
            1 => image.layers[bottom].clone(),
            _ => solved.fold(&below[bottom], &below[top]).await?,
        });
        from = end;
    }
    let history = image.config.history.iter_mut().skip(image.base_history);
    for (number, entry) in (1..).zip(history.filter(|entry| !entry.empty_layer)) {
        entry.empty_layer = !ends.contains(&number);
    }
    image.layers = layers;
    Ok(())
}

/// The chain up to each of its layers, the empty one first.
fn prefixes(chain: &Chain) -> Vec<Chain> {
    let mut prefixes = vec![chain.clone()];
    let mut at = chain;
    while let Some(below) = at.below() {
        prefixes.push(below.clone());
        at = below;
    }
    prefixes.reverse();
    prefixes
}

/// The lines of the steps that made the highest `count` layers of a result, the lowest first. Each step on the way
/// made one.
fn lines(bases: &Bases, result: Option<StepId>, count: usize) -> Vec<Option<LineRange>> {
    let mut lines = Vec::with_capacity(count);
    let mut at = result;
    while let Some(id) = at
        && lines.len() < count
    {
        let step = bases.graph.step(id);
        lines.push(step.lines);
        at = step.inputs.first().copied();
    }
    lines.reverse();
    lines
}

/// The number of steps up to the end of each layer: at a marked line, and at the last step.
fn ends(steps: &[Option<LineRange>], marked: &[u32]) -> Vec<usize> {
    let is_end = |lines: &Option<LineRange>| {
        lines.is_some_and(|lines| {
            marked.iter().any(|line| lines.first <= *line && *line <= lines.last)
        })
    };
    let count = steps.len();
    (1..=count).filter(|number| *number == count || is_end(&steps[number - 1])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_end_at_marks_and_at_the_end() {
        let steps = [(2, 2), (3, 5), (6, 6)].map(|(first, last)| Some(LineRange { first, last }));
        assert_eq!(ends(&steps, &[]), [3]);
        assert_eq!(ends(&steps, &[5]), [2, 3]);
        assert_eq!(ends(&steps, &[2, 6]), [1, 3]);
        assert_eq!(ends(&[None], &[2]), [1]);
        assert_eq!(ends(&[], &[2]), [0; 0]);
    }
}
