//! The files of images: `makisu diff`, `makisu pull --extract`.

use std::path::Path;

use build::images::{self, Kept, PathChange, PathDifference, Porter, PullRequest};
use oci::Reference;
use serde_json::Value;

use super::{DIFF, read};
use crate::commands::{self, transfer::Transfer};
use crate::personalities::flags::{self, Operands};
use crate::personalities::{Invocation, helped, usage};
use crate::render::Report;
use crate::settings::{Environment, Settings};
use crate::{machine, terminal};

/// Prints the differences between the configs and the files of two images.
///
/// # Errors
/// If a flag is wrong, or an image is not found.
pub fn diff(
    words: &[String],
    invocation: &Invocation,
    environment: &Environment,
) -> Result<(), Report> {
    let given = read(DIFF, words, Operands::Anywhere)?;
    if given.help {
        let about = "Shows what two images have not the same: `+` only the second has, `-` only the first, `~` both.";
        return helped(&flags::help("makisu diff IMAGE IMAGE", about, DIFF));
    }
    let [first, second] = given.operands.as_slice() else {
        return Err(usage("it takes two images", None, 1));
    };
    let times = !given.is_on("ignoreModTime", true);
    given.done()?;
    let settings = invocation.settings(environment)?;
    let first = here(first, environment, &settings)?;
    let second = here(second, environment, &settings)?;
    let store = machine::open_store(&settings, &machine::rise(&settings))?;
    let work = async |porter: Porter| porter.compare_files((&first, &second), times).await;
    let settings = &settings;
    let files = Transfer { environment, settings, store, quiet: true }.run(work)?;
    let configs = [&first, &second].map(|image| serde_json::to_value(&image.config));
    let [Ok(one), Ok(other)] = configs else {
        return Err("a config cannot be written as JSON".to_owned().into());
    };
    let mut text = String::new();
    compare("config", Some(&one), Some(&other), &mut text);
    files.iter().for_each(|difference| text.push_str(&line(difference)));
    terminal::print(&text)
}

/// Writes an image's files into a folder.
///
/// # Errors
/// If the image is not found, or the folder cannot be written.
pub fn extract(
    name: &str,
    folder: &Path,
    environment: &Environment,
    settings: &Settings,
) -> Result<(), Report> {
    let image = here(name, environment, settings)?;
    let store = machine::open_store(settings, &machine::rise(settings))?;
    let work = async |porter: Porter| porter.extract(&image, folder).await;
    Transfer { environment, settings, store, quiet: false }.run(work)
}

/// The image with a name or ID; pulled if it is not here.
fn here(text: &str, environment: &Environment, settings: &Settings) -> Result<Kept, Report> {
    let open = || machine::open_store(settings, &machine::rise(settings));
    let mut found = images::look_up(&open()?, text);
    if let (Err(images::ImageError::NotHere(_)), Ok(name)) = (&found, text.parse::<Reference>()) {
        let platform = settings.default_platforms.first().cloned();
        let request = PullRequest { name, platform, insecure: false };
        let work = async |porter: Porter| porter.pull(&request).await;
        Transfer { environment, settings, store: open()?, quiet: true }.run(work)?;
        found = images::look_up(&open()?, text);
    }
    found.map(|found| found.image).map_err(|error| commands::report(&error))
}

fn line(difference: &PathDifference) -> String {
    // Escaped, since a name with a line end would look like two lines.
    let path = String::from_utf8_lossy(&difference.path).escape_debug().to_string();
    match &difference.change {
        PathChange::Added => format!("+ /{path}\n"),
        PathChange::Removed => format!("- /{path}\n"),
        PathChange::Changed(aspects) => format!("~ /{path}: {}\n", aspects.join(", ")),
    }
}

/// Appends a line for each value that differs, under its name.
fn compare(name: &str, first: Option<&Value>, second: Option<&Value>, text: &mut String) {
    match (first, second) {
        (first, second) if first == second => {}
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            let added = other.keys().filter(|key| !one.contains_key(*key));
            for key in one.keys().chain(added) {
                compare(&format!("{name}.{key}"), one.get(key), other.get(key), text);
            }
        }
        (Some(one), Some(other)) => text.push_str(&format!("~ {name}: {one} -> {other}\n")),
        (Some(one), None) => text.push_str(&format!("- {name}: {one}\n")),
        (None, Some(other)) => text.push_str(&format!("+ {name}: {other}\n")),
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_that_differs_has_its_line() {
        let one = serde_json::json!({"os": "linux", "config": {"Env": ["A=1"], "User": "me"}});
        let other =
            serde_json::json!({"os": "linux", "config": {"Env": ["A=2"], "Labels": {"a": "b"}}});
        let mut text = String::new();
        compare("config", Some(&one), Some(&other), &mut text);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "+ config.config.Labels: {\"a\":\"b\"}",
                "- config.config.User: \"me\"",
                "~ config.config.Env: [\"A=1\"] -> [\"A=2\"]",
            ]
        );
        let path = b"a\nb".as_slice().into();
        let changed = PathDifference { path, change: PathChange::Changed(vec!["mode", "content"]) };
        assert_eq!(line(&changed), "~ /a\\nb: mode, content\n");
    }
}
