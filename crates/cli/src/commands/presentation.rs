//! The part of a build that the command line itself does: progress, notes, and files at the end.

use std::path::{Path, PathBuf};

use build::{Outcome, Output, Request};
use graph::Events;
use runtime::WantedIsolation;

use crate::args::{BuildFlags, FlagError, isolation_or_setting};
use crate::progress::{Display, ProgressMode, Style, renderer};
use crate::render::{self, Report};
use crate::settings::Settings;
use crate::terminal::{self, say};

/// A build as it was asked for: the request, and its presentation.
#[derive(Clone, Debug)]
pub struct BuildPlan {
    /// The request.
    pub request: Request,
    /// The presentation.
    pub presentation: BuildPresentation,
}

/// The part of a build that the command line itself does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildPresentation {
    /// The form of the progress.
    pub progress: ProgressMode,
    /// True if the image's ID is printed at the end (`-q`).
    pub prints_id: bool,
    /// The file for the image's ID.
    pub iidfile: Option<PathBuf>,
    /// The file for digests and names.
    pub metadata_file: Option<PathBuf>,
    /// The isolation of a RUN.
    pub isolation: WantedIsolation,
    /// Notes on flags without effect.
    pub warnings: Vec<String>,
}

impl BuildPresentation {
    /// The presentation that flags and settings ask for.
    ///
    /// # Errors
    /// If flags contradict each other.
    pub fn of(
        flags: &BuildFlags,
        settings: &Settings,
        directory: &Path,
    ) -> Result<Self, FlagError> {
        let progress = match (flags.quiet, flags.progress) {
            (true, None | Some(ProgressMode::Auto | ProgressMode::Quiet)) => ProgressMode::Quiet,
            (true, Some(mode)) => {
                let name = clap::ValueEnum::to_possible_value(&mode);
                let name = name.as_ref().map_or("", |value| value.get_name());
                return Err(FlagError::Together(format!("--progress={name}"), "--quiet"));
            }
            // `auto` leaves the choice to the environment, as with buildx.
            (false, None | Some(ProgressMode::Auto)) => settings.progress.unwrap_or_default(),
            (false, Some(mode)) => mode,
        };
        let is_files = |output: &Output| matches!(output, Output::Local(_) | Output::Tar(_));
        if flags.iidfile.is_some() && flags.outputs.iter().any(is_files) {
            let reason = "outputs of type local and tar make no image, so it has no ID";
            return Err(FlagError::bad("--iidfile", reason));
        }
        Ok(Self {
            progress,
            prints_id: progress == ProgressMode::Quiet,
            iidfile: flags.iidfile.as_ref().map(|path| directory.join(path)),
            metadata_file: flags.metadata_file.as_ref().map(|path| directory.join(path)),
            isolation: isolation_or_setting(flags.isolation, settings)?,
            warnings: flags.notes.clone(),
        })
    }
}

/// A build that is being shown.
pub struct DisplayedBuild {
    display: Display,
    presentation: BuildPresentation,
}

impl DisplayedBuild {
    /// Prints warnings, removes the old `--iidfile`, and starts the display.
    ///
    /// # Errors
    /// If the old file cannot be removed, the display cannot start, or `--progress=tty` has no
    /// terminal.
    pub fn begin(presentation: BuildPresentation, style: &Style) -> Result<Self, Report> {
        let is_terminal = terminal::stderr_is_terminal();
        if presentation.progress == ProgressMode::Tty && !is_terminal {
            return Err("`--progress=tty` needs a terminal, which standard error is not"
                .to_owned()
                .into());
        }
        for warning in &presentation.warnings {
            say(&format!("WARNING: {warning}\n"));
        }
        if let Some(path) = &presentation.iidfile {
            remove(path)?;
        }
        let renderer = renderer(presentation.progress, style, terminal::has_live_display());
        let display = Display::start(renderer, std::io::stderr(), terminal::stderr_size)
            .map_err(|error| Report::from(format!("starting the thread for progress: {error}")))?;
        Ok(Self { display, presentation })
    }

    /// The sink for the build's events.
    pub fn events(&self) -> Events {
        self.display.events()
    }

    /// Prints a line before the progress, in the modes that are text.
    pub fn note(&self, line: &str) {
        if matches!(
            self.presentation.progress,
            ProgressMode::Auto | ProgressMode::Plain | ProgressMode::Tty
        ) {
            say(line);
        }
    }

    /// Ends a successful build: warnings, summary, files, the image's ID.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn succeed(self, outcome: &Outcome) -> Result<(), Report> {
        let shown = self.display.finish();
        let presentation = self.presentation;
        if matches!(
            presentation.progress,
            ProgressMode::Auto | ProgressMode::Plain | ProgressMode::Tty
        ) {
            say(&render::warnings(&shown.warnings));
            for warning in &outcome.warnings {
                say(&format!("{warning}\n"));
            }
            say(&render::summary(outcome));
        }
        if let Some(explained) = &outcome.explained {
            say(&render::explained(explained, false));
        }
        if let Some(path) = &presentation.metadata_file {
            render::write_file(path, &render::metadata(outcome))?;
        }
        if let Some(id) = render::image_id(outcome) {
            if let Some(path) = &presentation.iidfile {
                render::write_file(path, &id)?;
            }
            if presentation.prints_id {
                terminal::print(&format!("{id}\n"))?;
            }
        }
        Ok(())
    }

    /// Ends several successful builds: a file with the metadata of each.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn succeed_all(
        self,
        outcomes: &[(&str, &Outcome)],
        metadata_file: Option<&Path>,
    ) -> Result<(), Report> {
        let shown = self.display.finish();
        if matches!(
            self.presentation.progress,
            ProgressMode::Auto | ProgressMode::Plain | ProgressMode::Tty
        ) {
            say(&render::warnings(&shown.warnings));
            for (name, outcome) in outcomes {
                for warning in &outcome.warnings {
                    say(&format!("{name}: {warning}\n"));
                }
                say(&format!("{name}: {}", render::summary(outcome)));
            }
        }
        if let Some(path) = metadata_file {
            let all = outcomes.iter().map(|(name, outcome)| {
                let metadata = serde_json::from_str(&render::metadata(outcome));
                ((*name).to_owned(), metadata.unwrap_or_default())
            });
            let all: serde_json::Map<String, serde_json::Value> = all.collect();
            let text = serde_json::to_string_pretty(&all).unwrap_or_default();
            render::write_file(path, &text)?;
        }
        Ok(())
    }

    /// Ends a failed build: the progress so far. The caller prints the report.
    pub fn fail(self) {
        self.display.abort();
    }
}

fn remove(path: &Path) -> Result<(), Report> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("removing `{}`: {error}", path.display()).into())
        }
        _ => Ok(()),
    }
}
