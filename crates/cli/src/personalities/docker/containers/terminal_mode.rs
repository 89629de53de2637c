//! This terminal while a container has it.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use ::engine::ConsoleSize;

/// The terminal of standard input, whose keys go to the container as they are. Dropped, it is as it was.
pub(super) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Takes the terminal; none if there is none.
    pub(super) fn take() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// The size of the terminal of standard output, if it is one.
pub(super) fn size() -> Option<ConsoleSize> {
    let size = tcgetwinsize(std::io::stdout()).ok()?;
    Some(ConsoleSize { columns: size.ws_col, rows: size.ws_row }).filter(|size| size.columns > 0)
}
