//! `kiln history`.

use build::images::look_up;
use oci::{Digest, History, ImageConfig};
use serde_json::{Value, json};
use store::Store;

use super::listing::RowFormat;
use super::{ago, id, now, report, seconds};
use crate::args::HistoryArgs;
use crate::render::{Report, table};
use crate::{human, terminal};

/// Prints the steps that made an image.
///
/// # Errors
/// If a flag is wrong or the image is not here.
pub fn run(args: &HistoryArgs, store: &Store) -> Result<(), Report> {
    let format = RowFormat::read(args.format.as_deref())?;
    let image = look_up(store, &args.image).map_err(|error| report(&error))?.image;
    let steps = steps(&image.config, image.layer_sizes());
    let rows = rows(&Subject { id: image.id, steps }, args, now());
    let times = image.config.history.iter().rev().map(|step| time(step.created.as_deref()));
    let values: Vec<Value> = rows
        .iter()
        .zip(times)
        .map(|([id, since, command, size, comment], time)| {
            json!({
                "ID": id, "CreatedSince": since, "CreatedAt": time, "CreatedBy": command,
                "Size": size, "Comment": comment,
            })
        })
        .collect();
    let listed = if args.quiet { None } else { format.lines(&values)? };
    terminal::print(&listed.unwrap_or_else(|| text(&rows, args)))
}

/// The longest command that is shown, in characters, as in docker.
const COMMAND_WIDTH: usize = 45;

/// An image, as its history is made of it.
struct Subject<'a> {
    id: Digest,
    /// The steps that made it, the first one first.
    steps: Vec<(&'a History, u64)>,
}

/// The steps that made an image, the first one first, each with the size of its layer.
///
/// `layer_sizes` are in bytes, as they are stored or sent, in the config's order; a missing one
/// counts as 0.
pub fn steps(config: &ImageConfig, layer_sizes: impl Iterator<Item = u64>) -> Vec<(&History, u64)> {
    let mut sizes = layer_sizes;
    let mut size = |step: &History| if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) };
    config.history.iter().map(|step| (step, size(step))).collect()
}

/// The steps that made an image, the last one first: ID, time, command, size and comment.
fn rows(image: &Subject<'_>, args: &HistoryArgs, now: i64) -> Vec<[String; 5]> {
    let name = |index: usize| match index {
        0 => id(image.id, args.no_trunc),
        _ => "<missing>".to_owned(),
    };
    let is_human = args.human.unwrap_or(true);
    let row = |(index, (step, size)): (usize, &(&History, u64))| {
        let created = step.created.as_deref();
        let command = step.created_by.replace('\t', " ");
        [
            name(index),
            if is_human { ago(created.and_then(seconds), now) } else { time(created) },
            if args.no_trunc { command } else { shortened(&command) },
            if is_human { human::size(*size) } else { size.to_string() },
            step.comment.clone(),
        ]
    };
    image.steps.iter().rev().enumerate().map(row).collect()
}

/// A time to the second, as docker shows it.
fn time(created: Option<&str>) -> String {
    let time = created.and_then(seconds).and_then(|time| jiff::Timestamp::from_second(time).ok());
    time.map_or_else(|| "N/A".into(), |time| time.to_string())
}

/// The table; the IDs with `--quiet`.
fn text(rows: &[[String; 5]], args: &HistoryArgs) -> String {
    if args.quiet {
        return rows.iter().map(|[id, ..]| format!("{id}\n")).collect();
    }
    table(["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"], rows)
}

fn shortened(command: &str) -> String {
    match command.chars().count() > COMMAND_WIDTH {
        true => command.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect(),
        false => command.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(time(Some("2024-01-01T00:00:00.123456789Z")), "2024-01-01T00:00:00Z");
        assert_eq!(time(Some("2024-01-01T01:00:00+01:00")), "2024-01-01T00:00:00Z");
        assert_eq!(time(None), "N/A");
    }

    #[test]
    fn steps_are_shown_last_first() {
        let config: ImageConfig = serde_json::from_str(
            r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"history":[
                {"created":"2024-01-01T00:00:00Z","created_by":"RUN make a very long command that nobody reads to its end"},
                {"created":"2024-01-01T00:00:00Z","created_by":"CMD [\"x\"]","comment":"buildkit.dockerfile.v0","empty_layer":true}]}"#,
        )
        .unwrap();
        let args = HistoryArgs {
            image: "x".into(),
            no_trunc: false,
            quiet: false,
            human: None,
            format: None,
        };
        let steps = steps(&config, [1500].into_iter());
        let image = Subject { id: Digest::of("a"), steps };
        let text = text(&rows(&image, &args, 1_704_067_260), &args);
        assert_eq!(
            text,
            "IMAGE          CREATED              CREATED BY                                      SIZE    COMMENT\n\
             ca978112ca1b   About a minute ago   CMD [\"x\"]                                       0B      buildkit.dockerfile.v0\n\
             <missing>      About a minute ago   RUN make a very long command that nobody rea…   1.5kB\n"
        );
    }
}
