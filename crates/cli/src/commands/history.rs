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
    let sizes: Vec<u64> = image.layer_sizes().collect();
    let rows = rows(image.id, &image.config, &sizes, (args, now()));
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

/// The steps that made an image, the last one first: ID, time, command, size and comment.
///
/// `layer_sizes` are in bytes, as they are stored or sent, in the config's order; a missing one
/// counts as 0.
fn rows(
    image: Digest,
    config: &ImageConfig,
    layer_sizes: &[u64],
    (args, now): (&HistoryArgs, i64),
) -> Vec<[String; 5]> {
    let mut sizes = layer_sizes.iter().copied();
    let steps: Vec<(&History, u64)> = config
        .history
        .iter()
        .map(|step| (step, if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) }))
        .collect();
    let name = |index: usize| match index {
        0 => id(image, args.no_trunc),
        _ => "<missing>".to_owned(),
    };
    let is_human = args.human.unwrap_or(true);
    let row = |(index, (step, size)): (usize, (&History, u64))| {
        let created = step.created.as_deref();
        let command = step.created_by.replace('\t', " ");
        [
            name(index),
            match is_human {
                true => ago(created.and_then(seconds), now),
                false => time(created),
            },
            if args.no_trunc { command } else { shortened(&command) },
            if is_human { human::size(size) } else { size.to_string() },
            step.comment.clone(),
        ]
    };
    steps.into_iter().rev().enumerate().map(row).collect()
}

/// A time to the second, as docker shows it.
fn time(created: Option<&str>) -> String {
    let time = created.and_then(seconds).and_then(|time| jiff::Timestamp::from_second(time).ok());
    time.map_or_else(|| "N/A".into(), |time| time.to_string())
}

/// The table; the IDs with `--quiet`.
fn text(rows: &[[String; 5]], args: &HistoryArgs) -> String {
    match args.quiet {
        true => rows.iter().map(|[id, ..]| format!("{id}\n")).collect(),
        false => table(["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"], rows),
    }
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
        let text = text(&rows(Digest::of("a"), &config, &[1500], (&args, 1_704_067_260)), &args);
        assert_eq!(
            text,
            "IMAGE          CREATED              CREATED BY                                      SIZE    COMMENT\n\
             ca978112ca1b   About a minute ago   CMD [\"x\"]                                       0B      buildkit.dockerfile.v0\n\
             <missing>      About a minute ago   RUN make a very long command that nobody rea…   1.5kB\n"
        );
    }
}
