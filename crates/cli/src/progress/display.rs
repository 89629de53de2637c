//! The thread between a build and the stream its progress goes to.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use graph::{Event, Events, Failure, TaskEvent, TaskId};

use super::{Renderer, Size};

/// The time after which the display is drawn again without events (BuildKit's ticker).
const TICK: Duration = Duration::from_millis(150);
/// The shortest time between two drawings with events.
const LIMIT: Duration = Duration::from_millis(100);

/// Shows events until it is finished.
pub struct Display {
    sender: Sender<Message>,
    thread: JoinHandle<DisplaySummary>,
}

/// The part of a display's content that is used after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DisplaySummary {
    /// Warnings, in order.
    pub warnings: Vec<Arc<str>>,
}

enum Message {
    Event(Event),
    Finish,
    Abort,
}

impl Display {
    /// Starts the thread. `size` is called before each drawing, so that it follows the window.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        renderer: Box<dyn Renderer>,
        stream: impl Write + Send + 'static,
        size: impl Fn() -> Size + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let show = Show {
            renderer,
            stream: Box::new(stream),
            size: Box::new(size),
            shown: DisplaySummary::default(),
            open: BTreeSet::new(),
            text: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("progress".into())
            .spawn(move || show.run(&receiver))?;
        Ok(Self { sender, thread })
    }

    /// The sink for the build's events. Sending never blocks, and events after the end are dropped.
    pub fn events(&self) -> Events {
        let sender = self.sender.clone();
        Events::new(move |event| drop(sender.send(Message::Event(event))))
    }

    /// Draws the end and waits until it is written.
    pub fn finish(self) -> DisplaySummary {
        self.end(Message::Finish)
    }

    /// [`Display::finish`] for a failed build: running tasks are shown as canceled.
    pub fn abort(self) -> DisplaySummary {
        self.end(Message::Abort)
    }

    fn end(self, how: Message) -> DisplaySummary {
        // If the display's thread has died, its stream is gone too.
        drop(self.sender.send(how));
        self.thread.join().unwrap_or_default()
    }
}

struct Show {
    renderer: Box<dyn Renderer>,
    stream: Box<dyn Write + Send>,
    size: Box<dyn Fn() -> Size + Send>,
    shown: DisplaySummary,
    /// Tasks that have begun and not ended.
    open: BTreeSet<TaskId>,
    text: Vec<u8>,
}

impl Show {
    fn run(mut self, receiver: &Receiver<Message>) -> DisplaySummary {
        let mut last_draw: Option<Instant> = None;
        loop {
            let message = match receiver.recv_timeout(TICK) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => {
                    self.draw();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            match message {
                Message::Event(event) => self.take(&event),
                Message::Finish => break,
                Message::Abort => {
                    self.cancel();
                    break;
                }
            }
            if last_draw.is_none_or(|last| last.elapsed() >= LIMIT) {
                last_draw = Some(Instant::now());
                self.draw();
            }
        }
        self.renderer.finish(SystemTime::now(), (self.size)(), &mut self.text);
        self.write();
        self.shown
    }

    fn cancel(&mut self) {
        let at = SystemTime::now();
        for task in std::mem::take(&mut self.open) {
            let what = TaskEvent::Failed(Failure::Canceled);
            self.renderer.take(&Event { at, task, what }, at);
        }
    }

    fn take(&mut self, event: &Event) {
        match &event.what {
            TaskEvent::Warning(text) => self.shown.warnings.push(text.clone()),
            TaskEvent::Started => drop(self.open.insert(event.task)),
            TaskEvent::Done | TaskEvent::Failed(_) => drop(self.open.remove(&event.task)),
            _ => (),
        }
        self.renderer.take(event, SystemTime::now());
    }

    fn draw(&mut self) {
        self.renderer.draw(SystemTime::now(), (self.size)(), &mut self.text);
        self.write();
    }

    /// Writes a drawing at once, so that no half of it shows. A closed stream (a broken pipe) does
    /// not end the build.
    fn write(&mut self) {
        if !self.text.is_empty() {
            drop(self.stream.write_all(&self.text).and_then(|()| self.stream.flush()));
            self.text.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::PlainLog;
    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_goes_on_when_a_build_fails_is_canceled() {
        let stream = Shared::default();
        let display =
            Display::start(Box::new(PlainLog::new(None, None)), stream.clone(), Size::default)
                .unwrap();
        let events = display.events();
        for name in ["a", "b"] {
            let task = events.task(name, Vec::new());
            events.send(task, TaskEvent::Started);
            if name == "a" {
                events.send(task, TaskEvent::Done);
            }
        }
        display.abort();
        let text = String::from_utf8(stream.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("#1 DONE 0.0s\n") && text.ends_with("#2 b\n#2 CANCELED\n"), "{text}");
    }

    #[test]
    fn all_events_are_shown_at_the_end() {
        let stream = Shared::default();
        let display =
            Display::start(Box::new(PlainLog::new(None, None)), stream.clone(), Size::default)
                .unwrap();
        let events = display.events();
        let task = events.task("a", Vec::new());
        events.send(task, TaskEvent::Started);
        events.send(task, TaskEvent::Warning("careful".into()));
        events.send(task, TaskEvent::Done);
        let shown = display.finish();
        events.send(task, TaskEvent::Done);
        assert_eq!(shown.warnings, ["careful".into()]);
        let text = String::from_utf8(stream.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "#1 a\n#1 WARN: careful\n#1 DONE 0.0s\n");
    }
}
