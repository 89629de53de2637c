//! Colours of live progress: `NO_COLOR` and `BUILDKIT_COLORS`.

/// The escape sequences (without `ESC [` and `m`) of coloured rows; `None` leaves a row uncoloured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Colors {
    /// Rows that ended well.
    pub run: Option<String>,
    /// Rows that were canceled.
    pub cancel: Option<String>,
    /// Rows that failed.
    pub error: Option<String>,
    /// Warnings.
    pub warning: Option<String>,
    /// True if output under a running step is faint.
    pub faint: bool,
}

/// An error in a part of `BUILDKIT_COLORS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum ColorError {
    #[error("it is not `name=colour`")]
    NotAPair,
    #[error("the colour is neither a name as `blue` nor `red,green,blue` from 0 to 255")]
    NotAColor,
    #[error("the name is none of run, cancel, error, warning")]
    UnknownName,
}

impl Default for Colors {
    fn default() -> Self {
        let sgr = |code: &str| Some(code.to_owned());
        Self {
            run: sgr("34"),
            cancel: sgr("33"),
            error: sgr("31"),
            warning: sgr("33"),
            faint: true,
        }
    }
}

impl Colors {
    /// No colours at all.
    pub fn none() -> Self {
        Self { run: None, cancel: None, error: None, warning: None, faint: false }
    }

    /// Reads `NO_COLOR` (any text but the empty one) and `BUILDKIT_COLORS`
    /// (`run=blue:cancel=255,127,0:…`). Returns a sentence for each wrong part, which is left out
    /// as in BuildKit: a colour is no reason to end a build.
    pub fn from_settings(no_color: Option<&str>, colors: Option<&str>) -> (Self, Vec<String>) {
        if no_color.is_some_and(|value| !value.is_empty()) {
            return (Self::none(), Vec::new());
        }
        let mut result = Self::default();
        let mut warnings = Vec::new();
        for part in colors.unwrap_or("").split(':').filter(|part| !part.is_empty()) {
            if let Err(reason) = result.set(part) {
                warnings.push(format!("BUILDKIT_COLORS: `{part}` is left out: {reason}"));
            }
        }
        (result, warnings)
    }

    fn set(&mut self, part: &str) -> Result<(), ColorError> {
        let (key, value) = part.split_once('=').ok_or(ColorError::NotAPair)?;
        let code = code(&value.trim_matches('"').to_lowercase()).ok_or(ColorError::NotAColor)?;
        let field = match key.to_lowercase().as_str() {
            "run" => &mut self.run,
            "cancel" => &mut self.cancel,
            "error" => &mut self.error,
            "warning" => &mut self.warning,
            _ => return Err(ColorError::UnknownName),
        };
        *field = Some(code);
        Ok(())
    }
}

fn code(name: &str) -> Option<String> {
    const NAMES: [&str; 8] =
        ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
    if name == "default" {
        return Some("39".into());
    }
    if name.contains(',') {
        let channels: Vec<u8> =
            name.split(',').map(|channel| channel.trim().parse().ok()).collect::<Option<_>>()?;
        let [red, green, blue] = channels[..] else { return None };
        return Some(format!("38;2;{red};{green};{blue}"));
    }
    let (base, name) = match name.strip_prefix("light-") {
        Some(name) => (90, name),
        None => (30, name),
    };
    let index = NAMES.iter().position(|known| *known == name)?;
    Some((base + index).to_string())
}

/// `text` in a colour.
pub(super) fn paint(text: &str, code: Option<&str>) -> String {
    match code {
        Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_come_from_the_environment() {
        let (colors, warnings) =
            Colors::from_settings(None, Some("run=light-green:ERROR=255,1,2:x=red:cancel=pink"));
        assert_eq!(colors.run.as_deref(), Some("92"));
        assert_eq!(colors.error.as_deref(), Some("38;2;255;1;2"));
        assert_eq!(colors.cancel.as_deref(), Some("33"));
        assert_eq!(warnings.len(), 2);
        assert_eq!(Colors::from_settings(Some("1"), Some("run=red")).0, Colors::none());
        assert_eq!(Colors::from_settings(Some(""), None).0, Colors::default());
    }
}
