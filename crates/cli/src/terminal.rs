//! The terminal: its size, and questions whose answer does not show.

use std::io::{self, BufRead as _, IsTerminal as _, Read, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};

use crate::progress::Size;
use crate::render::{CommandError, Report};
use crate::settings::Hidden;

/// Prints to standard output; a closed pipe (`kiln … | head`) is not an error.
///
/// # Errors
/// If it cannot be written for another reason.
pub fn print(text: &str) -> Result<(), Report> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("writing standard output: {error}").into())
        }
        _ => Ok(()),
    }
}

/// Prints to standard error; a closed one is ignored.
pub fn say(text: &str) {
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// A question without an answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Standard input is not a terminal.
    #[error("there is no terminal to ask on; give --username and --password-stdin")]
    NoTerminal,
    /// Standard input cannot be read.
    #[error("reading the answer: {0}")]
    Read(#[from] io::Error),
    /// The terminal cannot be made to hide the answer.
    #[error("hiding the answer: {0}")]
    Hide(#[from] rustix::io::Errno),
    /// Ctrl-C was typed.
    #[error("interrupted")]
    Interrupted,
    /// The answer has more bytes than a password can have.
    #[error("the answer is too long")]
    TooLong,
    /// The answer is not text.
    #[error("the answer is not UTF-8")]
    NotUtf8,
}

impl CommandError for AskError {}

/// Asks on standard input of any kind; none if it is at its end.
///
/// # Errors
/// If standard input cannot be read.
pub fn confirm(question: &str) -> Result<Option<String>, AskError> {
    say(question);
    let mut answer = String::new();
    let mut input = std::io::stdin().lock().take(LONGEST_ANSWER as u64);
    if input.read_line(&mut answer)? == 0 {
        say("\n");
        return Ok(None);
    }
    Ok(Some(answer))
}

/// True if standard input is a terminal.
pub fn stdin_is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// True if standard output is a terminal.
pub fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// True if progress goes to a terminal.
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// True once diagnostics go to standard error too.
static HAS_DIAGNOSTICS: AtomicBool = AtomicBool::new(false);

/// Shares standard error with diagnostics, which a live display would overwrite.
pub fn share_with_diagnostics() {
    HAS_DIAGNOSTICS.store(true, Ordering::Relaxed);
}

/// True if a live display can draw on standard error: a terminal on which no diagnostics appear.
pub fn has_live_display() -> bool {
    stderr_is_terminal() && !HAS_DIAGNOSTICS.load(Ordering::Relaxed)
}

/// The size of the terminal that progress goes to.
pub fn stderr_size() -> Size {
    match termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { width: size.ws_col.into(), height: size.ws_row.into() }
        }
        _ => Size::default(),
    }
}

/// The longest answer, in bytes.
const LONGEST_ANSWER: usize = 64 << 10;

/// Asks on the terminal; the answer shows.
///
/// # Errors
/// If standard input is not a terminal, or ends.
pub fn ask(question: &str) -> Result<String, AskError> {
    require_terminal()?;
    eprint!("{question}");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

/// Asks on the terminal; the answer does not show.
///
/// # Errors
/// If standard input is not a terminal, or Ctrl-C was typed.
pub fn ask_password(question: &str) -> Result<Hidden, AskError> {
    require_terminal()?;
    let stdin = std::io::stdin();
    eprint!("{question}");
    drop(std::io::stderr().flush());
    let answer = {
        let _silence = Silence::begin()?;
        read_hidden(&mut stdin.lock())
    };
    eprintln!();
    answer
}

fn require_terminal() -> Result<(), AskError> {
    if stdin_is_terminal() { Ok(()) } else { Err(AskError::NoTerminal) }
}

/// Turns off echo, line editing and signals until it is dropped: Ctrl-C must not leave a terminal
/// without echo.
struct Silence(Termios);

impl Silence {
    fn begin() -> rustix::io::Result<Self> {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(&stdin)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        termios::tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // The terminal may be gone, with nothing to restore.
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Reads a line without the terminal's editing; handles backspace, Ctrl-U, Ctrl-C and Ctrl-D.
fn read_hidden(input: &mut impl Read) -> Result<Hidden, AskError> {
    let mut answer = Vec::new();
    let mut byte = [0];
    loop {
        match input.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        }
        match byte[0] {
            b'\n' | b'\r' | 4 => break,
            3 => return Err(AskError::Interrupted),
            8 | 127 => {
                // One character, which may be several bytes.
                while answer.pop().is_some_and(|last: u8| last & 0xc0 == 0x80) {}
            }
            21 => answer.clear(),
            byte if answer.len() < LONGEST_ANSWER => answer.push(byte),
            _ => return Err(AskError::TooLong),
        }
    }
    String::from_utf8(answer).map(Hidden::new).map_err(|_| AskError::NotUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_answer_can_be_corrected() {
        for (typed, answer) in [
            (&b"secret\n"[..], "secret"),
            ("oopsé\x7f\x7f\n".as_bytes(), "oop"),
            (b"wrong\x15right\r", "right"),
            (b"\x7fa\x04b", "a"),
        ] {
            assert_eq!(read_hidden(&mut &typed[..]).unwrap().expose(), answer);
        }
        assert!(matches!(read_hidden(&mut &b"a\x03"[..]), Err(AskError::Interrupted)));
    }
}
