//! Progress as text for logs: BuildKit's `plain` format, line for line.
//!
//! Tasks get a number when they are first printed. One task is printed at a time; another one takes
//! over when it has ended, when it was silent for long, or by its share of the output (BuildKit,
//! `util/progress/progressui/printer.go`). Output of commands is not clipped (BuildKit clips at 2
//! MiB and 200 KiB/s) and keeps its colours. Characters that move the cursor, change the terminal
//! or reverse text are removed (BuildKit passes them on), and every line has its step's number, so
//! that none passes for another step's.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use graph::{Event, Failure, TaskEvent};

use super::lines::{OutputLines, PLAIN};
use super::sanitize::visible;
use super::trace::{Change, Trace, seconds_between, transferred};
use super::{Renderer, Size};

/// The approximate time, in seconds, that a task keeps the log before a noisier one may take it.
const ANTI_FLICKER: f64 = 5.0;
/// The longest time, in seconds, that a task with news waits for the log.
const LONGEST_SILENCE: f64 = 10.0;
/// The time after which an unfinished part is shown again…
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// …or the share of its bytes.
const STATUS_SHARE: f64 = 0.05;

/// BuildKit's plain text.
pub struct PlainLog {
    trace: Trace,
    /// The state that the format adds to each task, by index in the trace.
    shown: Vec<PrintedTask>,
    current: Option<usize>,
    last_number: usize,
    /// Tasks with unprinted news.
    updated: BTreeSet<usize>,
    /// `PROGRESS_NO_TRUNC=0`: names longer than this are cut.
    name_limit: Option<usize>,
    description: Option<String>,
    printed_any: bool,
}

#[derive(Default)]
struct PrintedTask {
    /// The task's number; 0 until it is printed.
    number: usize,
    lines: OutputLines,
    warnings: usize,
    /// Updates since it last had the log, and the time of the first of them.
    updates: u32,
    blocked_since: Option<SystemTime>,
    /// By part: its bytes and the time when it was last printed.
    parts: HashMap<usize, (u64, SystemTime)>,
    /// True if it ended since it was last printed.
    ended: bool,
}

struct Share {
    blocked: f64,
    speed: f64,
    over_limit: bool,
}

impl PlainLog {
    /// `description` is the text after `#0`, if there is one.
    pub fn new(name_limit: Option<usize>, description: Option<String>) -> Self {
        Self {
            trace: Trace::default(),
            shown: Vec::new(),
            current: None,
            last_number: 0,
            updated: BTreeSet::new(),
            name_limit,
            description,
            printed_any: false,
        }
    }

    fn print_header(&mut self, task: usize, out: &mut Vec<u8>) {
        if let Some(old) = self.current {
            let old = &mut self.shown[old];
            old.lines.interrupt(out);
            old.updates = 0;
            line(out, format_args!("#{} ...", old.number));
        }
        if self.printed_any {
            out.push(b'\n');
        } else if let Some(description) = &self.description {
            line(out, format_args!("#0 {description}\n"));
        }
        self.printed_any = true;
        let name = visible(&self.trace.tasks[task].name);
        let number = self.shown[task].number;
        match self.name_limit.and_then(|limit| name.char_indices().nth(limit)) {
            Some((cut, _)) => line(out, format_args!("#{number} {}...", &name[..cut])),
            None => line(out, format_args!("#{number} {name}")),
        }
    }

    /// Writes the parts with news. Returns true if one of them goes on.
    fn print_parts(&mut self, task: usize, out: &mut Vec<u8>) -> bool {
        let shown = &mut self.shown[task];
        let mut goes_on = false;
        for (index, part) in self.trace.tasks[task].transfers.iter_mut().enumerate() {
            if !std::mem::take(&mut part.changed) {
                continue;
            }
            let latest = &part.latest;
            if let (Some((bytes, at)), None) = (shown.parts.get(&index), latest.completed) {
                let moved = latest.current as f64 - *bytes as f64;
                let share = if latest.total > 0 { moved / latest.total as f64 } else { 0.0 };
                let waited = seconds_between(*at, part.at);
                if share < STATUS_SHARE && waited < STATUS_INTERVAL.as_secs_f64() {
                    continue;
                }
            }
            shown.parts.insert(index, (latest.current, part.at));
            let elapsed = seconds_between(latest.started, latest.completed.unwrap_or(part.at));
            let time = if elapsed > 0.01 { format!(" {elapsed:.1}s") } else { String::new() };
            let done = if latest.completed.is_some() { " done" } else { "" };
            goes_on |= latest.completed.is_none();
            let bytes = transferred(latest);
            let name = visible(&latest.name);
            line(out, format_args!("#{} {name}{bytes}{time}{done}", shown.number));
        }
        goes_on
    }

    fn print_task(&mut self, task: usize, now: SystemTime, out: &mut Vec<u8>) {
        if self.shown[task].number == 0 {
            self.last_number += 1;
            self.shown[task].number = self.last_number;
        }
        if self.current != Some(task) {
            self.print_header(task, out);
        }
        let part_goes_on = self.print_parts(task, out);
        let state = &self.trace.tasks[task];
        let shown = &mut self.shown[task];
        let number = shown.number;
        for warning in &state.warnings[shown.warnings..] {
            lines(out, number, "WARN", warning);
        }
        shown.warnings = state.warnings.len();
        shown.lines.print(number, out);
        self.current = Some(task);
        let ended = std::mem::take(&mut shown.ended);
        // A part can go on after its task's end (a layer that is fetched later); it is not cut
        // short then. The end itself always shows, whatever parts it leaves unfinished.
        if state.is_completed() && (ended || !part_goes_on) {
            self.current = None;
            shown.updates = 0;
            shown.lines.interrupt(out);
            match &state.failure {
                Some(Failure::Canceled) => line(out, format_args!("#{number} CANCELED")),
                Some(Failure::Error(text)) => lines(out, number, "ERROR", text),
                None if state.cached => line(out, format_args!("#{number} CACHED")),
                None => {
                    line(out, format_args!("#{number} DONE {:.1}s", state.seconds_worked(now)));
                }
            }
        }
        self.updated.remove(&task);
    }

    /// The share of the log of each task with news.
    fn shares(&self, tasks: &BTreeSet<usize>, now: SystemTime) -> Vec<(usize, Share)> {
        let share = |task: usize| {
            let shown = &self.shown[task];
            let blocked = seconds_between(shown.blocked_since?, now);
            let speed = f64::from(shown.updates) / blocked;
            let over_limit = blocked > LONGEST_SILENCE && self.current != Some(task);
            Some((task, Share { blocked, speed, over_limit }))
        };
        tasks.iter().filter_map(|task| share(*task)).collect()
    }

    /// Decides which of the running tasks has the log after `current`; none if it keeps the log.
    fn next(&self, current: usize, shares: &[(usize, Share)]) -> Option<usize> {
        if let Some((task, _)) = shares.iter().find(|(_, share)| share.over_limit) {
            return Some(*task);
        }
        let sum: f64 = shares.iter().map(|(_, share)| share.speed).sum();
        let (_, own) = shares.iter().find(|(task, _)| *task == current)?;
        match ANTI_FLICKER / (1.0 - own.speed / sum) < own.blocked {
            true => noisiest(shares),
            false => None,
        }
    }
}

/// The task with the most updates per second; one that waited too long goes first.
fn noisiest(shares: &[(usize, Share)]) -> Option<usize> {
    let mut best: Option<&(usize, Share)> = None;
    for entry in shares {
        if entry.1.over_limit || best.is_none_or(|best| best.1.speed < entry.1.speed) {
            best = Some(entry);
        }
    }
    best.map(|(task, _)| *task)
}

impl Renderer for PlainLog {
    fn take(&mut self, event: &Event, now: SystemTime) {
        let (task, change) = self.trace.take(event);
        self.shown.resize_with(self.trace.tasks.len(), PrintedTask::default);
        let state = &self.trace.tasks[task];
        let shown = &mut self.shown[task];
        if let TaskEvent::Log(_, data) = &event.what {
            shown.lines.push(data, state.seconds_at(event.at));
        }
        let change = match event.what {
            // A warning, part or output of a task that never started shows all the same.
            TaskEvent::Log(..) | TaskEvent::Transfer(_) | TaskEvent::Warning(_) => Change::Task,
            _ => change,
        };
        if change == Change::Nothing {
            return;
        }
        shown.ended |= change == Change::End;
        if shown.updates == 0 {
            shown.blocked_since = Some(now);
        }
        shown.updates += 1;
        self.updated.insert(task);
    }

    fn draw(&mut self, now: SystemTime, _size: Size, out: &mut Vec<u8>) {
        let (mut completed, mut rest): (Vec<usize>, BTreeSet<usize>) =
            (Vec::new(), BTreeSet::new());
        for task in &self.updated {
            match self.trace.tasks[*task].is_completed() {
                true => completed.push(*task),
                false => drop(rest.insert(*task)),
            }
        }
        completed.sort_by_key(|task| self.trace.tasks[*task].stopped());
        let current = self.current;
        let ended = current.filter(|task| completed.contains(task));
        for task in ended.into_iter().chain(completed.iter().copied().filter(|t| Some(*t) != ended))
        {
            self.print_task(task, now, out);
        }
        if rest.is_empty() {
            let open = |task: &usize| self.trace.tasks[*task].is_open();
            if !current.as_ref().is_some_and(open)
                && let Some(task) = self.trace.started.iter().copied().find(open)
                && self.current != Some(task)
            {
                self.print_task(task, now, out);
            }
            return;
        }
        if let Some(current) = current.filter(|task| rest.contains(task)) {
            self.print_task(current, now, out);
        }
        rest.extend(current);
        let shares = self.shares(&rest, now);
        let next = match current {
            Some(current) if ended.is_none() => self.next(current, &shares),
            _ => noisiest(&shares),
        };
        if let Some(task) = next {
            self.print_task(task, now, out);
        }
    }

    fn finish(&mut self, now: SystemTime, size: Size, out: &mut Vec<u8>) {
        self.draw(now, size, out);
        for task in &self.trace.started {
            let state = &self.trace.tasks[*task];
            if let Some(Failure::Error(_)) = &state.failure {
                line(out, format_args!("------\n > {}:", visible(&state.name)));
                for text in self.shown[*task].lines.tail() {
                    out.extend_from_slice(text);
                    // A line that was cut short may have colours that do not end.
                    if text.contains(&b'\x1b') && !text.ends_with(PLAIN.as_bytes()) {
                        out.extend_from_slice(PLAIN.as_bytes());
                    }
                    out.push(b'\n');
                }
                line(out, format_args!("------"));
            }
        }
    }
}

/// Writes a text about a task; each of its lines has the task's number.
fn lines(out: &mut Vec<u8>, number: usize, word: &str, text: &str) {
    let mut before = format!("{word}: ");
    for text in text.split('\n') {
        line(out, format_args!("#{number} {before}{}", visible(text)));
        before.clear();
    }
}

fn line(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.extend_from_slice(text.to_string().as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::testing::Script;
    use super::*;
    use graph::TaskId;

    fn plain() -> Script<PlainLog> {
        Script::new(PlainLog::new(None, None))
    }

    #[test]
    fn a_build_reads_as_buildkit_writes_it() {
        let mut script = plain();
        let load = script.task("[internal] load build definition from Dockerfile");
        let base = script.task("[1/3] FROM docker.io/library/alpine:3.20");
        let make = script.task("[2/3] RUN make");
        let copy = script.task("[other 2/2] COPY a b");
        script.started(load);
        script.transfer(load, "transferring dockerfile:", (227, 0), true);
        script.done(load);
        assert_eq!(
            script.draw(),
            "#1 [internal] load build definition from Dockerfile\n\
             #1 transferring dockerfile: 227B done\n#1 DONE 0.0s\n"
        );
        script.at(0.1);
        script.cached(base);
        script.started(make);
        script.at(0.314);
        script.log(make, "hello\n");
        assert_eq!(
            script.draw(),
            "\n#2 [1/3] FROM docker.io/library/alpine:3.20\n#2 CACHED\n\
             \n#3 [2/3] RUN make\n#3 0.214 hello\n"
        );
        script.started(copy);
        script.at(0.414);
        script.done(copy);
        assert_eq!(script.draw(), "#3 ...\n\n#4 [other 2/2] COPY a b\n#4 DONE 0.1s\n");
        script.at(1.303);
        script.log(make, "bye\n");
        script.failed(
            make,
            "process \"/bin/sh -c make\" did not complete successfully: exit code: 2",
        );
        assert_eq!(
            script.finish(),
            "\n#3 [2/3] RUN make\n#3 1.203 bye\n\
             #3 ERROR: process \"/bin/sh -c make\" did not complete successfully: exit code: 2\n\
             ------\n > [2/3] RUN make:\n0.214 hello\n1.203 bye\n------\n"
        );
    }

    #[test]
    fn parts_are_shown_again_after_five_percent_or_five_seconds() {
        let mut script = plain();
        let pull = script.task("pull");
        script.started(pull);
        script.transfer(pull, "sha256:aa", (0, 1_000_000), false);
        assert_eq!(script.draw(), "#1 pull\n#1 sha256:aa 0B / 1.00MB\n");
        script.at(1.0);
        script.transfer(pull, "sha256:aa", (40_000, 1_000_000), false);
        assert_eq!(script.draw(), "");
        script.at(2.0);
        script.transfer(pull, "sha256:aa", (50_000, 1_000_000), false);
        assert_eq!(script.draw(), "#1 sha256:aa 50.00kB / 1.00MB 2.0s\n");
        script.at(7.0);
        script.transfer(pull, "sha256:aa", (50_001, 1_000_000), false);
        assert_eq!(script.draw(), "#1 sha256:aa 50.00kB / 1.00MB 7.0s\n");
        script.at(8.0);
        script.transfer(pull, "sha256:aa", (1_000_000, 1_000_000), true);
        script.done(pull);
        assert_eq!(script.draw(), "#1 sha256:aa 1.00MB / 1.00MB 8.0s done\n#1 DONE 8.0s\n");
    }

    #[test]
    fn a_silent_task_gets_the_log_after_ten_seconds() {
        let mut script = plain();
        let (a, b) = (script.task("a"), script.task("b"));
        script.started(a);
        assert_eq!(script.draw(), "#1 a\n");
        script.started(b);
        assert_eq!(script.draw(), "");
        for second in 1..=10 {
            script.at(f64::from(second));
            script.log(a, "x\n");
            let text = script.draw();
            assert!(!text.contains("#2"), "{second}: {text}");
        }
        script.at(10.5);
        script.log(a, "x\n");
        assert_eq!(script.draw(), "#1 10.50 x\n#1 ...\n\n#2 b\n");
    }

    #[test]
    fn an_open_line_ends_when_another_task_comes_in_between() {
        let mut script = plain();
        let (a, b) = (script.task("a"), script.task("b"));
        script.started(a);
        script.log(a, "half");
        assert_eq!(script.draw(), "#1 a\n#1 0.000 half");
        script.started(b);
        script.done(b);
        assert_eq!(script.draw(), "\n#1 ...\n\n#2 b\n#2 DONE 0.0s\n");
        script.log(a, " more");
        script.done(a);
        assert_eq!(script.draw(), "\n#1 a\n#1 0.000 half more\n#1 DONE 0.0s\n");
    }

    #[test]
    fn what_was_cancelled_before_it_began_does_not_show() {
        let mut script = plain();
        let (a, b) = (script.task("a"), script.task("b"));
        script.started(a);
        script.canceled(a);
        script.canceled(b);
        assert_eq!(script.finish(), "#1 a\n#1 CANCELED\n");
    }

    #[test]
    fn warnings_descriptions_and_short_names() {
        let mut script = Script::new(PlainLog::new(Some(3), Some("building with kiln".into())));
        let a = script.task("long name");
        script.started(a);
        script.warning(a, "cache is damaged");
        script.done(a);
        assert_eq!(
            script.draw(),
            "#0 building with kiln\n\n#1 lon...\n#1 WARN: cache is damaged\n#1 DONE 0.0s\n"
        );
        assert_eq!(a, TaskId(0));
    }

    #[test]
    fn colours_of_output_pass() {
        let mut script = plain();
        let a = script.task("a");
        script.started(a);
        script.log(a, "\u{1b}[31mred\u{1b}[0m\r\n");
        assert_eq!(script.draw(), "#1 a\n#1 0.000 \u{1b}[31mred\u{1b}[0m\n");
    }

    /// For any text in a build argument, a path or a command: each line of the log is headed by the
    /// number of the step that it belongs to, and only colours control the terminal.
    #[test]
    fn no_text_passes_for_another_step() {
        let hostile = [
            "x\n#7 DONE 0.0s\n",
            "x\r#7 DONE 0.0s\r\n",
            "\u{1b}[2K\u{1b}[1G#7 DONE 0.0s\n",
            "\u{1b}[1A\u{1b}[5D\u{1b}]0;t\u{7}\u{1b}]8;;http://a\u{1b}\\#7\n",
            "\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}#7 ERROR: no\n",
            "\u{b}\u{c}\u{85}\u{2028}\u{2029}#7 DONE 0.0s\n",
            "\u{202e}s0.0 ENOD 7#\u{2066}\n",
            "\u{9b}2J\u{9d}0;t\u{9c}#7\n",
            "\u{1b}[8mhidden\n",
            "open\u{1b}[31m",
        ];
        for text in hostile {
            let mut script = plain();
            let a = script.task(&format!("[1/2] RUN echo {text}"));
            let b = script.task("[2/2] RUN b");
            script.started(a);
            script.started(b);
            script.transfer(a, text, (1, 2), false);
            script.warning(a, text);
            script.log(a, text);
            let mut log = script.draw();
            script.at(20.0);
            script.log(b, "b\n");
            script.log(a, text);
            log += &script.draw();
            script.failed(a, text);
            script.done(b);
            log += &script.finish();
            let (log, end) = log.split_once("------\n").unwrap();
            for line in log.split(['\n', '\r']).filter(|line| !line.is_empty()) {
                assert!(line.starts_with("#1 ") || line.starts_with("#2 "), "{text:?}: {line:?}");
            }
            for line in log.split('\n').chain(end.split('\n')) {
                let mut open = false;
                let mut rest = line;
                while let Some((_, after)) = rest.split_once('\u{1b}') {
                    let (parameters, after) = after.split_once('m').unwrap();
                    let parameters = parameters.strip_prefix('[').unwrap();
                    assert!(parameters.bytes().all(|byte| byte.is_ascii_digit()), "{line:?}");
                    open = parameters != "0";
                    rest = after;
                }
                assert!(!open, "{text:?}: colours go on after {line:?}");
                let steers = |c: char| c.is_control() && !matches!(c, '\u{1b}' | '\r' | '\t');
                let turns = ['\u{202e}', '\u{2066}', '\u{2028}', '\u{2029}', '\u{9b}'];
                assert!(!line.contains(steers) && !line.contains(turns), "{text:?}: {line:?}");
            }
        }
    }

    #[test]
    fn layers_fetched_after_a_hit_come_back_to_the_task() {
        let mut script = plain();
        let a = script.task("a");
        script.cached(a);
        assert_eq!(script.draw(), "#1 a\n#1 CACHED\n");
        script.transfer(a, "sha256:aa", (0, 10), false);
        assert_eq!(script.draw(), "\n#1 a\n#1 sha256:aa 0B / 10B\n");
        script.transfer(a, "sha256:aa", (10, 10), true);
        assert_eq!(script.draw(), "#1 sha256:aa 10B / 10B done\n#1 CACHED\n");
    }

    /// For any order of events and drawings: every line of output and every end is printed once,
    /// and a task's output stands under its header.
    #[test]
    fn nothing_is_lost_or_said_twice() {
        for seed in 0..200u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut random = |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % below
            };
            let mut script = plain();
            let tasks: Vec<TaskId> = (0..5).map(|n| script.task(&format!("task {n}"))).collect();
            let (mut text, mut said, mut time) = (String::new(), Vec::new(), 0.0);
            for task in &tasks {
                script.started(*task);
            }
            for number in 0..60 {
                let task = random(5) as usize;
                said.push(format!("<{task}:{number}>"));
                script.log(tasks[task], &format!("<{task}:{number}>\n"));
                time += random(3000) as f64 / 1000.0;
                script.at(time);
                if random(2) == 0 {
                    text += &script.draw();
                }
            }
            for task in &tasks {
                script.done(*task);
            }
            text += &script.finish();
            for line in &said {
                assert_eq!(text.matches(line.as_str()).count(), 1, "seed {seed}, {line}:\n{text}");
            }
            assert_eq!(text.matches(" DONE ").count(), 5, "seed {seed}:\n{text}");
            let mut current = "";
            for line in text.lines().filter(|line| !line.is_empty()) {
                let (number, rest) = line.split_once(' ').unwrap();
                if rest.starts_with("task ") {
                    current = number;
                }
                assert_eq!(number, current, "seed {seed}: {line}");
            }
        }
    }
}
