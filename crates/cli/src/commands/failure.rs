//! The report of a failed build.

use crate::machine;
use crate::render::{self, Excerpt, Report};
use crate::terminal::say;
use crate::threads;

/// The report of a failed build.
pub fn report(error: build::Error) -> Report {
    if let build::Error::Explained { error, steps } = error {
        say(&render::explained(&steps, false));
        return report(*error);
    }
    let message = oci::chain_text(&error);
    let login = machine::login_hint(&error);
    let hint = login.clone().or_else(|| error.hint().map(str::to_owned));
    match error {
        build::Error::Canceled => threads::canceled(),
        build::Error::Dockerfile { message, place, hint } => Report {
            doing: Report::SOLVING,
            excerpt: place.map(|place| Excerpt {
                source: place.file,
                lines: place.lines,
                span: place.span,
            }),
            hint,
            ..Report::from(message)
        },
        build::Error::NoPush { .. } => Report { hint: login, ..Report::from(message) },
        build::Error::Policy { .. } => {
            let hint = "build without it by `--policy disabled=true`, or with buildx".to_owned();
            Report { doing: Report::SOLVING, hint: Some(hint), ..Report::from(message) }
        }
        _ => Report { doing: Report::SOLVING, hint, ..Report::from(message) },
    }
}
