//! The progress of a build.
//!
//! A [`Renderer`] is a state machine: events and the clock go in, text comes out. [`Display`] runs
//! one on its own thread, between the build that sends events and the stream that shows them.

mod colors;
mod display;
mod lines;
mod plain;
mod rawjson;
mod sanitize;
mod trace;
mod tty;

use std::time::SystemTime;

use graph::Event;

pub use colors::Colors;
pub use display::Display;
pub use plain::PlainLog;
pub use rawjson::RawJson;
pub use sanitize::{sanitize, sanitized};
pub use tty::Tty;

/// How progress is shown (`--progress`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressMode {
    /// `tty` on a terminal, else `plain`.
    #[default]
    #[value(alias = "")]
    Auto,
    /// Not at all.
    None,
    /// BuildKit's text for logs.
    Plain,
    /// Not at all; the image's ID is printed at the end.
    Quiet,
    /// A line of JSON for each event, as `buildctl --progress rawjson` prints them.
    #[value(name = "rawjson")]
    RawJson,
    /// Live, for terminals.
    Tty,
}

/// The look of progress, as the environment sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Style {
    /// Colours of `tty`.
    pub colors: Colors,
    /// Lines of output under a running step in `tty`.
    pub log_lines: usize,
    /// The length at which names are cut in `plain`.
    pub name_limit: Option<usize>,
}

impl Default for Style {
    fn default() -> Self {
        Self { colors: Colors::default(), log_lines: 6, name_limit: None }
    }
}

/// Columns and lines of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: usize,
    /// Lines.
    pub height: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { width: 80, height: 24 }
    }
}

/// Turns events into text, without a clock or stream of its own.
pub trait Renderer: Send {
    /// Reads an event that arrived at `now`.
    fn take(&mut self, event: &Event, now: SystemTime);

    /// Appends what is new at `now` to `out`.
    fn draw(&mut self, now: SystemTime, size: Size, out: &mut Vec<u8>);

    /// Appends the end: everything that is not drawn yet, and the output of failed tasks.
    fn finish(&mut self, now: SystemTime, size: Size, out: &mut Vec<u8>);
}

/// Shows nothing (`quiet`, `none`).
struct Silent;

impl Renderer for Silent {
    fn take(&mut self, _: &Event, _: SystemTime) {}
    fn draw(&mut self, _: SystemTime, _: Size, _: &mut Vec<u8>) {}
    fn finish(&mut self, _: SystemTime, _: Size, _: &mut Vec<u8>) {}
}

/// The renderer of a mode; `terminal` is true if progress goes to a terminal.
pub fn renderer(mode: ProgressMode, style: &Style, terminal: bool) -> Box<dyn Renderer> {
    match mode {
        ProgressMode::Auto if terminal => renderer(ProgressMode::Tty, style, terminal),
        ProgressMode::Auto | ProgressMode::Plain => Box::new(PlainLog::new(style.name_limit, None)),
        ProgressMode::Tty => Box::new(Tty::new(style.clone())),
        ProgressMode::RawJson => Box::new(RawJson::default()),
        ProgressMode::Quiet | ProgressMode::None => Box::new(Silent),
    }
}

#[cfg(test)]
mod testing {
    //! A build scripted by a test, with a clock that the test moves.

    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use graph::{Event, Failure, Stream, Task, TaskEvent, TaskId, TransferProgress};

    use super::{Renderer, Size};

    pub(super) struct Script<R> {
        renderer: R,
        now: f64,
        next: u32,
        pub(super) size: Size,
    }

    impl<R: Renderer> Script<R> {
        pub(super) fn new(renderer: R) -> Self {
            Self { renderer, now: 0.0, next: 0, size: Size::default() }
        }

        fn time(&self) -> SystemTime {
            UNIX_EPOCH + Duration::from_secs(1_700_000_000) + Duration::from_secs_f64(self.now)
        }

        pub(super) fn at(&mut self, seconds: f64) {
            self.now = seconds;
        }

        fn send(&mut self, task: TaskId, what: TaskEvent) {
            let now = self.time();
            self.renderer.take(&Event { at: now, task, what }, now);
        }

        pub(super) fn task(&mut self, name: &str) -> TaskId {
            let id = TaskId(self.next);
            self.next += 1;
            self.send(id, TaskEvent::Known(Task { id, name: name.into(), inputs: Vec::new() }));
            id
        }

        pub(super) fn started(&mut self, task: TaskId) {
            self.send(task, TaskEvent::Started);
        }

        pub(super) fn cached(&mut self, task: TaskId) {
            self.send(task, TaskEvent::Cached("local".into()));
        }

        pub(super) fn done(&mut self, task: TaskId) {
            self.send(task, TaskEvent::Done);
        }

        pub(super) fn failed(&mut self, task: TaskId, text: &str) {
            self.send(task, TaskEvent::Failed(Failure::Error(text.into())));
        }

        pub(super) fn canceled(&mut self, task: TaskId) {
            self.send(task, TaskEvent::Failed(Failure::Canceled));
        }

        pub(super) fn warning(&mut self, task: TaskId, text: &str) {
            self.send(task, TaskEvent::Warning(text.into()));
        }

        pub(super) fn log(&mut self, task: TaskId, text: &str) {
            self.send(task, TaskEvent::Log(Stream::Out, text.as_bytes().into()));
        }

        pub(super) fn transfer(
            &mut self,
            task: TaskId,
            name: &str,
            (current, total): (u64, u64),
            done: bool,
        ) {
            let completed = done.then(|| self.time());
            let started = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
            let transfer =
                TransferProgress { name: name.into(), current, total, started, completed };
            self.send(task, TaskEvent::Transfer(transfer));
        }

        pub(super) fn draw(&mut self) -> String {
            let mut out = Vec::new();
            self.renderer.draw(self.time(), self.size, &mut out);
            String::from_utf8(out).unwrap()
        }

        pub(super) fn finish(&mut self) -> String {
            let mut out = Vec::new();
            self.renderer.finish(self.time(), self.size, &mut out);
            String::from_utf8(out).unwrap()
        }
    }
}
