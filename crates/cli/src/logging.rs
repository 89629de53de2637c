//! Diagnostics: the spans and events of kiln's crates, written to standard error or a file.
//!
//! `KILN_LOG` has the grammar `LEVEL[,CRATE=LEVEL…]`, as in `debug` or `info,registry=trace`. Other
//! libraries are never logged: some of them write headers, and headers hold credentials.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::progress::sanitize;
use crate::render::CommandError;
use crate::settings::Environment;
use crate::terminal;

/// The crates whose spans and events are kiln's own.
const CRATES: &[&str] = &[
    "attest",
    "bake",
    "build",
    "cache",
    "containers",
    "dockerfile",
    "engine",
    "execute",
    "export",
    "gotemplate",
    "graph",
    "kiln",
    "layer",
    "oci",
    "registry",
    "runtime",
    "service",
    "solve",
    "store",
    "transfer",
    "tree",
    "yaml",
];

/// An error in `KILN_LOG` or `KILN_LOG_FILE`.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level or a crate's name is unknown.
    #[error(
        "`KILN_LOG={text}`: `{part}` is not a level (error, warn, info, debug, trace) and not a \
         crate with one, as in `info,registry=debug`"
    )]
    Directive {
        /// The variable's value.
        text: String,
        /// The part at fault.
        part: String,
    },
    /// The file cannot be written.
    #[error("`KILN_LOG_FILE`: opening `{path}`: {source}")]
    Open {
        /// The file.
        path: String,
        /// The reason.
        source: io::Error,
    },
}

impl CommandError for LogError {}

/// Starts to write diagnostics, if the environment or `--debug` asks for them. A second call has no
/// effect.
///
/// # Errors
/// If a variable is wrong, or the file cannot be written.
pub fn start(environment: &Environment, is_debug: bool) -> Result<(), LogError> {
    let levels = environment.get("KILN_LOG");
    let output = match environment.get("KILN_LOG_FILE") {
        Some(path) => LogSink::File(open(path)?),
        None if is_debug || levels.is_some() => LogSink::Stderr,
        None => return Ok(()),
    };
    let is_on_stderr = matches!(output, LogSink::Stderr);
    // A log file without a level gets `debug`, the level that maintainers ask for.
    let targets = targets(levels.unwrap_or("debug"))?;
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(output);
    let is_first = tracing_subscriber::registry().with(targets).with(layer).try_init().is_ok();
    if is_first && is_on_stderr {
        terminal::share_with_diagnostics();
    }
    Ok(())
}

fn open(path: &str) -> Result<Arc<Mutex<File>>, LogError> {
    // The file has names, addresses and commands: only its owner may read it.
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    let file = file.map_err(|source| LogError::Open { path: path.into(), source })?;
    Ok(Arc::new(Mutex::new(file)))
}

fn targets(text: &str) -> Result<Targets, LogError> {
    let mut all = LevelFilter::OFF;
    let mut single = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let unknown = || LogError::Directive { text: text.into(), part: part.into() };
        let level = |text: &str| text.parse::<LevelFilter>().map_err(|_| unknown());
        match part.split_once('=') {
            None => all = level(part)?,
            Some((name, text)) => {
                let name = CRATES.iter().find(|known| **known == name).ok_or_else(unknown)?;
                single.push((*name, level(text)?));
            }
        }
    }
    let every = CRATES.iter().map(|name| (*name, all));
    Ok(every.chain(single).collect())
}

/// The destination of diagnostics.
#[derive(Clone)]
enum LogSink {
    Stderr,
    File(Arc<Mutex<File>>),
}

impl<'a> MakeWriter<'a> for LogSink {
    type Writer = LogLine;

    fn make_writer(&'a self) -> Self::Writer {
        LogLine { output: self.clone(), bytes: Vec::new() }
    }
}

/// One line, written whole when it is dropped: without control characters, which registries and
/// Dockerfiles can send, and without the secrets of addresses.
struct LogLine {
    output: LogSink,
    bytes: Vec<u8>,
}

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.bytes);
        let text = format!("{}\n", sanitize(&oci::shown_text(text.trim_end())));
        match &self.output {
            LogSink::Stderr => terminal::say(&text),
            LogSink::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                // A full disk must not fail a build.
                let _ = file.write_all(text.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crates_are_those_of_the_workspace() {
        let manifest: toml::Table = include_str!("../../../Cargo.toml").parse().unwrap();
        let layers = manifest["workspace"]["metadata"]["layers"].as_table().unwrap();
        let mut names: Vec<&str> = layers.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(CRATES, names);
    }

    #[test]
    fn levels_are_for_all_crates_or_for_one() {
        let is_on =
            |text: &str, target: &str, level| targets(text).unwrap().would_enable(target, &level);
        use tracing::Level;
        assert!(is_on("debug", "registry::transport", Level::DEBUG));
        assert!(!is_on("debug", "registry::transport", Level::TRACE));
        assert!(!is_on("trace", "h2::client", Level::ERROR));
        assert!(is_on("registry=trace", "registry", Level::TRACE));
        assert!(!is_on("registry=trace", "solve", Level::ERROR));
        assert!(is_on("info, solve=debug", "solve::solver", Level::DEBUG));
        for text in ["loud", "debug,x=info", "registry=loud", "h2=trace"] {
            assert!(matches!(targets(text), Err(LogError::Directive { .. })), "{text}");
        }
    }

    #[test]
    fn lines_hide_what_addresses_hide() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let output = LogSink::File(open(path.to_str().unwrap()).unwrap());
        writeln!(output.make_writer(), "at https://u:hush@h/x?token=hush \x1b[31m").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("at https://h/x") && !text.contains("hush"), "{text}");
        assert!(!text.contains('\x1b') && text.ends_with('\n'), "{text}");
    }
}
