//! Live progress: a row for each task and part, and the last lines of running commands, redrawn in
//! place. Each frame is written over the one before it, which avoids flicker.

use std::time::SystemTime;

use graph::{Event, Failure, TaskEvent};

use super::colors::paint;
use super::sanitize::{Window, sanitize};
use super::trace::{TaskState, Trace, seconds_between, transferred};
use super::{Renderer, Size, Style, lines};

/// The output of a task that is kept to be shown again if it fails, in bytes.
const KEPT_LOG: usize = 2 << 20;
/// The fewest columns of a name; narrower rows are left out.
const NARROWEST: usize = 12;

/// Live progress.
pub struct Tty {
    style: Style,
    trace: Trace,
    outputs: Vec<TaskOutput>,
    /// Widths of the lines that are on the screen.
    on_screen: Vec<usize>,
}

/// The output of a task's command.
struct TaskOutput {
    window: Window,
    /// The number of times its window was shown; windows that were shown often are preferred.
    times_shown: usize,
    log: Vec<u8>,
    /// Bytes dropped from the front of the log.
    dropped: usize,
    at_line_start: bool,
}

struct Row {
    text: String,
    status: String,
    seconds: f64,
    ended: Option<Outcome>,
    /// The task whose output may be shown under the row.
    task: Option<usize>,
    shows_output: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Well,
    Canceled,
    Failed,
    Warning,
}

impl Tty {
    /// Live progress in a style.
    pub fn new(style: Style) -> Self {
        Self { style, trace: Trace::default(), outputs: Vec::new(), on_screen: Vec::new() }
    }

    fn rows(&self, now: SystemTime) -> Vec<Row> {
        let mut rows = Vec::new();
        for task in &self.trace.started {
            let state = &self.trace.tasks[*task];
            rows.push(task_row(*task, state, now));
            for part in &state.transfers {
                let latest = &part.latest;
                rows.push(Row {
                    text: format!("=> {}", sanitize(&latest.name)),
                    status: transferred(latest),
                    seconds: seconds_between(
                        latest.started,
                        latest.completed.or(state.stopped()).unwrap_or(now),
                    ),
                    ended: (latest.completed.is_some() || state.is_completed())
                        .then_some(Outcome::Well),
                    task: None,
                    shows_output: false,
                });
            }
            rows.extend(state.warnings.iter().map(|warning| Row {
                text: format!("WARN: {}", sanitize(warning)),
                status: String::new(),
                seconds: state.seconds_worked(now),
                ended: Some(Outcome::Warning),
                task: None,
                shows_output: false,
            }));
        }
        rows
    }

    /// Gives windows to running commands while there is room, the noisiest first. Returns the
    /// number of lines that they take.
    fn open_windows(&mut self, rows: &mut [Row], size: Size) -> usize {
        let lines = self.window_height(size);
        let running = rows.iter().filter(|row| row.ended.is_none()).count();
        let mut free = size.height.saturating_sub(2 + running);
        let mut candidates: Vec<(usize, usize)> = rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.ended.is_none())
            .filter_map(|(index, row)| Some((index, row.task?)))
            .filter(|(_, task)| self.outputs[*task].window.bytes > 0)
            .collect();
        candidates.sort_by_key(|(_, task)| {
            let output = &self.outputs[*task];
            std::cmp::Reverse(output.window.bytes + output.times_shown * 50)
        });
        let mut taken = 0;
        for (row, task) in candidates {
            if free <= lines + 3 {
                break;
            }
            free -= lines + 3;
            rows[row].shows_output = true;
            self.outputs[task].times_shown += 1;
            taken += self.outputs[task].window.lines().count().min(lines);
        }
        taken
    }

    fn window_height(&self, size: Size) -> usize {
        self.style.log_lines.min(size.height.saturating_sub(7)).max(6)
    }

    fn frame(&mut self, now: SystemTime, size: Size, last: bool) -> Vec<(String, usize)> {
        let mut rows = self.rows(now);
        let taken = self.open_windows(&mut rows, size);
        if !last {
            rows = fit(rows, size.height.saturating_sub(2 + taken));
        }
        let mut frame = vec![plain_line(self.header(now, last), size)];
        for row in &rows {
            let Some((text, width)) = row_line(row, size) else { continue };
            frame.push((paint(&text, self.color(row.ended)), width));
            if let (true, Some(task)) = (row.shows_output, row.task) {
                let lines: Vec<&str> = self.outputs[task].window.lines().collect();
                let first = lines.len().saturating_sub(self.window_height(size));
                for line in &lines[first..] {
                    let (text, width) = plain_line(format!(" => => # {line}"), size);
                    frame.push((paint(&text, self.style.colors.faint.then_some("2")), width));
                }
            }
        }
        frame
    }

    fn header(&self, now: SystemTime, last: bool) -> String {
        let elapsed = self.trace.began.map_or(0.0, |began| seconds_between(began, now));
        let total = self.trace.tasks.len();
        let ended = self.trace.tasks.iter().filter(|task| task.is_completed()).count();
        let finished = if last && ended == total && ended > 0 { " FINISHED" } else { "" };
        format!("[+] Building {elapsed:.1}s ({ended}/{total}){finished}")
    }

    fn color(&self, outcome: Option<Outcome>) -> Option<&str> {
        let colors = &self.style.colors;
        match outcome? {
            Outcome::Well => colors.run.as_deref(),
            Outcome::Canceled => colors.cancel.as_deref(),
            Outcome::Failed => colors.error.as_deref(),
            Outcome::Warning => colors.warning.as_deref(),
        }
    }

    fn put(&mut self, frame: &[(String, usize)], size: Size, out: &mut Vec<u8>) {
        // Lines wider than the window is now take several of its lines.
        let height: usize =
            self.on_screen.iter().map(|width| width.div_ceil(size.width.max(1)).max(1)).sum();
        let mut text = String::from("\x1b[?25l\r");
        if height > 0 {
            text.push_str(&format!("\x1b[{height}A"));
        }
        for (line, _) in frame {
            text.push_str(line);
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J\x1b[?25h");
        out.extend_from_slice(text.as_bytes());
        self.on_screen = frame.iter().map(|(_, width)| *width).collect();
    }
}

impl Renderer for Tty {
    fn take(&mut self, event: &Event, _now: SystemTime) {
        let (task, _) = self.trace.take(event);
        let log_lines = self.style.log_lines;
        self.outputs.resize_with(self.trace.tasks.len(), || TaskOutput {
            window: Window::new(log_lines.max(6)),
            times_shown: 0,
            log: Vec::new(),
            dropped: 0,
            at_line_start: true,
        });
        let state = &self.trace.tasks[task];
        match &event.what {
            TaskEvent::Log(_, data) => self.outputs[task].write(data, state.seconds_at(event.at)),
            TaskEvent::Done => self.outputs[task].log = Vec::new(),
            _ => {}
        }
    }

    fn draw(&mut self, now: SystemTime, size: Size, out: &mut Vec<u8>) {
        let frame = self.frame(now, size, false);
        self.put(&frame, size, out);
    }

    fn finish(&mut self, now: SystemTime, size: Size, out: &mut Vec<u8>) {
        let frame = self.frame(now, size, true);
        self.put(&frame, size, out);
        for task in &self.trace.started {
            let state = &self.trace.tasks[*task];
            let Some(Failure::Error(_)) = &state.failure else { continue };
            let mut text = format!("------\n > {}:\n", sanitize(&state.name));
            let output = &self.outputs[*task];
            if output.dropped > 0 {
                let size = crate::human::size(output.dropped as u64);
                text.push_str(&format!("[the first {size} of output are left out]\n"));
            }
            for line in String::from_utf8_lossy(&output.log).lines() {
                text.push_str(&sanitize(line));
                text.push('\n');
            }
            text.push_str("------\n");
            out.extend_from_slice(text.as_bytes());
        }
    }
}

impl TaskOutput {
    fn write(&mut self, data: &[u8], seconds: f64) {
        self.window.write(data);
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            if self.at_line_start {
                self.log.extend_from_slice(lines::prefix(seconds).as_bytes());
            }
            self.log.extend_from_slice(piece);
            self.at_line_start = piece.ends_with(b"\n");
        }
        // The front is cut only at twice the limit, so that each byte is moved once.
        if self.log.len() > 2 * KEPT_LOG {
            let cut = self.log.len() - KEPT_LOG;
            let line_end = self.log[cut..].iter().position(|byte| *byte == b'\n');
            let cut = line_end.map_or(cut, |end| cut + end + 1);
            self.log.drain(..cut);
            self.dropped += cut;
        }
    }
}

fn task_row(task: usize, state: &TaskState, now: SystemTime) -> Row {
    let (mark, outcome) = match &state.failure {
        Some(Failure::Canceled) => ("CANCELED ", Outcome::Canceled),
        Some(Failure::Error(_)) => ("ERROR ", Outcome::Failed),
        None if state.cached => ("CACHED ", Outcome::Well),
        None => ("", Outcome::Well),
    };
    Row {
        text: format!("{mark}{}", sanitize(&state.name)),
        status: String::new(),
        seconds: state.seconds_worked(now),
        ended: state.is_completed().then_some(outcome),
        task: Some(task),
        shows_output: false,
    }
}

/// A row with its time at the right; none if the window is too narrow.
fn row_line(row: &Row, size: Size) -> Option<(String, usize)> {
    let seconds = if row.seconds < 0.05 { 0.0 } else { row.seconds };
    let timer = format!(" {seconds:3.1}s");
    // The last column stays free: some terminals wrap when it is written to.
    let mut left = size.width.checked_sub(4 + timer.len() + 2)?;
    let status_width = row.status.chars().count();
    let status = match left + status_width > 20 && left > status_width + NARROWEST {
        true => row.status.as_str(),
        false => "",
    };
    left = left.checked_sub(status.chars().count())?;
    if left < NARROWEST {
        return None;
    }
    let name: String = row.text.chars().take(left).collect();
    let begin = format!(" => {name}{status}");
    let width = size.width - timer.len() - 2;
    let text = format!("{begin:<width$} {timer}");
    let width = text.chars().count();
    Some((text, width))
}

/// A line that is cut at the window's edge.
fn plain_line(text: String, size: Size) -> (String, usize) {
    let text: String = text.chars().take(size.width.saturating_sub(1)).collect();
    let width = text.chars().count();
    (text, width)
}

/// The last `limit` rows; running ones that would be cut take the place of ended ones.
fn fit(rows: Vec<Row>, limit: usize) -> Vec<Row> {
    let mut surplus = rows.len().saturating_sub(limit);
    let mut kept: Vec<Row> = Vec::with_capacity(limit);
    for row in rows {
        if surplus > 0 && row.ended.is_some() {
            surplus -= 1;
        } else {
            kept.push(row);
        }
    }
    let excess = kept.len().saturating_sub(limit);
    kept.split_off(excess)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Script;
    use super::super::{Colors, Size};
    use super::*;

    fn tty() -> Script<Tty> {
        let style = Style { colors: Colors::none(), ..Style::default() };
        let mut script = Script::new(Tty::new(style));
        script.size = Size { width: 50, height: 20 };
        script
    }

    /// The frame as the screen shows it.
    fn screen(text: &str) -> String {
        let body = text.split_once('\r').unwrap().1;
        let body = body.trim_start_matches(|c: char| c == '\x1b' || c == '[' || c.is_ascii_digit());
        body.trim_start_matches('A').replace("\x1b[K", "").replace("\x1b[J\x1b[?25h", "")
    }

    #[test]
    fn a_frame_shows_what_runs_with_its_last_lines() {
        let mut script = tty();
        let pull = script.task("[1/3] FROM alpine");
        let run = script.task("[2/3] RUN make");
        script.task("[3/3] RUN later");
        script.started(pull);
        script.transfer(pull, "sha256:aa", (1_000_000, 3_400_000), false);
        script.started(run);
        script.at(1.25);
        script.log(run, "one\n\x1b[2Jtwo\n");
        assert_eq!(
            screen(&script.draw()),
            "+] Building 1.2s (0/3)\n\
             \u{20}=> [1/3] FROM alpine                        1.2s\n\
             \u{20}=> => sha256:aa 1.00MB / 3.40MB             1.2s\n\
             \u{20}=> [2/3] RUN make                           1.2s\n\
             \u{20}=> => # one\n => => # two\n"
        );
        script.at(2.0);
        script.cached(pull);
        script.done(run);
        let text = script.draw();
        assert!(text.starts_with("\x1b[?25l\r\x1b[6A[+] Building 2.0s (2/3)\x1b[K\n"), "{text:?}");
        assert!(!text.contains("# one"));
        assert!(text.contains(" => CACHED [1/3] FROM alpine "));
    }

    #[test]
    fn the_end_says_finished_and_shows_failed_output() {
        let mut script = tty();
        let run = script.task("RUN x");
        script.started(run);
        script.log(run, "a\x1b[31m\nb");
        script.failed(run, "exit code: 1");
        let text = script.finish();
        assert!(text.contains("(1/1) FINISHED\x1b[K\n => ERROR RUN x "), "{text:?}");
        assert!(text.ends_with("------\n > RUN x:\n0.000 a\n0.000 b\n------\n"), "{text:?}");
    }

    /// Any text in a build argument, a path or a command stays in its row.
    #[test]
    fn no_text_leaves_its_row() {
        for text in [
            "x\n => [2/2] RUN b 0.0s\n",
            "\x1b[2J\x1b[10A\x1b]0;t\x07x",
            "\r\x08\x0b\u{85}\u{2028}\u{202e}x\u{2066}",
            "\u{9b}2Jx\x1b[8m",
        ] {
            let mut script = tty();
            let run = script.task(&format!("[1/2] RUN {text}"));
            script.started(run);
            script.transfer(run, text, (1, 2), false);
            script.warning(run, text);
            script.log(run, text);
            let shown = screen(&script.draw());
            let steers = |c: char| c.is_control() && c != '\n';
            let turns = ['\u{2028}', '\u{202e}', '\u{2066}'];
            assert!(!shown.contains(steers) && !shown.contains(turns), "{text:?}: {shown:?}");
            assert!(shown.lines().skip(1).all(|line| line.starts_with(" => ")), "{shown}");
            script.failed(run, text);
            let end = script.finish();
            let (_, end) = end.split_once("------\n").unwrap();
            assert!(!end.contains(steers) && !end.contains(turns), "{text:?}: {end:?}");
        }
    }

    #[test]
    fn rows_fit_the_window() {
        let mut script = tty();
        script.size = Size { width: 40, height: 6 };
        let first = script.task("first, running");
        script.started(first);
        for index in 0..10 {
            let task = script.task(&format!("task {index} {}", "x".repeat(60)));
            script.started(task);
            script.done(task);
        }
        let text = screen(&script.draw());
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(text.contains("first, running") && text.contains("task 9"));
        assert!(text.lines().all(|line| line.chars().count() < 40), "{text}");
        // In a narrower window, each line that was drawn takes two.
        script.size.width = 20;
        assert!(script.draw().contains("\x1b[10A"));
        assert!(script.finish().contains("\x1b["));
    }
}
