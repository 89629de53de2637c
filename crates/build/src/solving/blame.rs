//! Why a step failed, for the one who wrote it: the words of the Dockerfile to look at, and what
//! to do next.

use std::path::Path;

use execute::files::FilesError;
use execute::{ContextFolder, Error};
use graph::{LineRange, LocalSource, Operation, PatternMatcher, Span, Step};
use tree::{DigestError, WalkError};

use crate::error::{ARCHIVE_LIMIT, is_archive_limit};
use crate::frontend::bases::Bases;

/// The words to blame, and what to do.
#[derive(Debug, Default)]
pub(crate) struct Diagnosis {
    pub span: Option<Span>,
    pub hint: Option<String>,
}

/// Looks at a failed step.
pub(crate) fn blame(bases: &Bases, step: &Step, error: &Error) -> Diagnosis {
    let word = |word: &str| step.lines.and_then(|lines| bases.file.find(lines, word, false));
    let hint = |text: &str| Some(text.to_owned());
    match error {
        Error::Content(DigestError::NotFound(path)) | Error::Files(FilesError::NotFound(path)) => {
            let span = step.lines.and_then(|lines| source_word(bases, lines, path));
            Diagnosis { span, hint: missing(bases, step, path) }
        }
        Error::Files(FilesError::NotDirectory(path) | FilesError::DirectoryOverFile(path)) => {
            let hint = format!("`{path}` is a file there: remove it first, or choose another path");
            Diagnosis { span: None, hint: Some(hint) }
        }
        Error::Files(FilesError::FileOverDirectory(path)) => {
            let hint =
                format!("`{path}` is a folder there: remove it first, or choose another path");
            Diagnosis { span: None, hint: Some(hint) }
        }
        Error::Files(FilesError::NameTooLong(_)) => Diagnosis {
            span: None,
            hint: hint("a name has at most 255 bytes, a path or what a link says 4095"),
        },
        Error::Files(FilesError::OwnerWithoutBase(name)) => Diagnosis {
            span: word(name),
            hint: hint("write the owner as numbers, or leave --link out"),
        },
        Error::Files(FilesError::Unpack { path, source }) if source.is_archive_limit() => {
            let span = step.lines.and_then(|lines| source_word(bases, lines, path));
            Diagnosis { span, hint: hint(ARCHIVE_LIMIT) }
        }
        Error::Files(FilesError::Unpack { path, .. }) => Diagnosis {
            span: step.lines.and_then(|lines| source_word(bases, lines, path)),
            hint: hint("the archive is damaged; COPY or ADD --unpack=false takes it as it is"),
        },
        Error::Layer(_) | Error::Store(_) if is_archive_limit(error) => {
            Diagnosis { span: None, hint: hint(ARCHIVE_LIMIT) }
        }
        Error::Context(WalkError::Pattern(_)) => {
            Diagnosis { span: None, hint: wrong_pattern(step) }
        }
        Error::NoSecret { id } => Diagnosis {
            span: word(id),
            hint: Some(format!("give it with --secret id={id},src=FILE or ,env=NAME")),
        },
        Error::NoAgent { id } => Diagnosis {
            span: word(&format!("id={id}")).or_else(|| word("type=ssh")),
            hint: Some(format!("lend an agent with --ssh {id}")),
        },
        Error::Container { source: runtime::Error::ProgramNotFound { program }, .. } => Diagnosis {
            span: word(program),
            hint: hint("the stage has no such file: FROM scratch, for one, has no shell"),
        },
        Error::Container { source: runtime::Error::NoSuchUser { user }, .. } => Diagnosis {
            span: None,
            hint: Some(format!("make the user (RUN useradd {user}), or give its number to USER")),
        },
        Error::Container { source: runtime::Error::NoSuchGroup { group }, .. } => Diagnosis {
            span: None,
            hint: Some(format!(
                "make the group (RUN groupadd {group}), or give its number to USER"
            )),
        },
        Error::ExitCode { refused_root: true, .. } => Diagnosis {
            span: word("chroot").or_else(|| word("installroot")),
            hint: hint(
                "it asked for another root (chroot), which no RUN has with --isolation=chroot: see \
                 docs/environments.md for where it can",
            ),
        },
        Error::ExitCode { code: 127, .. } => Diagnosis {
            span: None,
            hint: hint("127 says that a command was not found: is it installed in this stage?"),
        },
        Error::ExitCode { code: 126, .. } => Diagnosis {
            span: None,
            hint: hint("126 says that a file is not executable: COPY --chmod=755 makes it so"),
        },
        Error::ExitCode { code: 137, .. } => Diagnosis {
            span: None,
            hint: hint("137 says that it was killed, most often for want of memory"),
        },
        Error::NoIsolation { .. } => Diagnosis {
            span: None,
            hint: hint(
                "stages without RUN build anywhere, and so do RUN steps that a cache has; \
                 docs/environments.md says what RUN needs",
            ),
        },
        Error::Download { url, .. } => Diagnosis { span: word(url), hint: None },
        Error::Git { remote, .. } => Diagnosis { span: word(remote), hint: None },
        _ => Diagnosis::default(),
    }
}

/// The word of an instruction that stands for a path of a source.
fn source_word(bases: &Bases, lines: LineRange, path: &str) -> Option<Span> {
    let path = path.trim_matches('/');
    let forms = [format!("./{path}"), format!("/{path}"), format!("{path}/"), path.to_owned()];
    let text = &bases.file.text;
    let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=' | ',');
    let is_word = |span: &Span| {
        text[..span.start].ends_with(is_end)
            && (span.end == text.len() || text[span.end..].starts_with(is_end))
    };
    let found = forms.iter().filter_map(|form| bases.file.find(lines, form, false));
    // Sources stand in front of the destination.
    found.filter(is_word).min_by_key(|span| span.start)
}

/// Why a path that a step reads may be missing.
fn missing(bases: &Bases, step: &Step, path: &str) -> Option<String> {
    let inputs = step.inputs.iter().map(|input| bases.graph.step(*input));
    let local = inputs.map(|input| &input.operation).find_map(|operation| match operation {
        Operation::Local(source) => Some(source),
        _ => None,
    });
    let Some(LocalSource { name, excludes, .. }) = local else {
        return Some("--from has no such file: paths start at its root".into());
    };
    let path = path.trim_matches('/');
    if let Some(pattern) = excluded_by(excludes, path) {
        return Some(format!("`{pattern}` in the .dockerignore leaves it out"));
    }
    let place = match name.as_str() {
        "context" => "the build context",
        _ => "the named context",
    };
    let folder = match bases.folders.get(name)? {
        ContextFolder::Path(folder) => folder,
        // Only what the steps read was sent of it.
        ContextFolder::Client(_) => return Some(format!("{place} has no such file")),
    };
    Some(match nearest(folder, path) {
        Some(near) if near == path => match folder.join(path).is_symlink() {
            true => format!(
                "`{path}` is a link that leads to nothing in {place}, or to what its \
                 .dockerignore leaves out"
            ),
            false => format!(
                "`{path}` is there: --parents takes what is in a folder, as `{path}/*`, and goes \
                 through no link; --exclude may leave it out"
            ),
        },
        Some(near) => format!("did you mean {near}?"),
        None => format!("{place} is `{}`, and paths start there", folder.display()),
    })
}

/// The place of a pattern that cannot be read.
fn wrong_pattern(step: &Step) -> Option<String> {
    let Operation::Local(source) = &step.operation else { return None };
    let is_wrong = |pattern: &&String| PatternMatcher::new(&[pattern.as_str()]).is_err();
    Some(match source.excludes.iter().find(is_wrong) {
        Some(pattern) => format!(
            "`{pattern}` is a line of the .dockerignore: a `[` needs its `]`, a `!` what it takes \
             back, and `\\` in front of `[`, `*`, `?` or `\\` stands for the character itself"
        ),
        None => "it is a source of COPY, ADD or a mount: `\\[` stands for a bracket itself".into(),
    })
}

/// The first pattern that leaves a path out for good.
fn excluded_by<'p>(patterns: &'p [String], path: &str) -> Option<&'p str> {
    let whole = PatternMatcher::new(patterns).ok()?;
    if !whole.matches_or_parent_matches(path.as_bytes()) {
        return None;
    }
    let matches = |pattern: &&String| {
        PatternMatcher::new(&[pattern.as_str()])
            .is_ok_and(|matcher| matcher.matches_or_parent_matches(path.as_bytes()))
    };
    patterns.iter().filter(|pattern| !pattern.starts_with('!')).find(matches).map(String::as_str)
}

/// The number of names in a folder that are compared for a suggestion.
const NAMES: usize = 10_000;

/// The name in a path's folder that is most like the path's own.
fn nearest(folder: &Path, path: &str) -> Option<String> {
    let (parent, name) = match path.rsplit_once('/') {
        Some((parent, name)) => (Some(parent), name),
        None => (None, path),
    };
    // A link may lead out of the folder: the names there are not to be shown.
    let listed = parent.map_or_else(|| folder.to_owned(), |parent| folder.join(parent));
    if !listed.canonicalize().ok()?.starts_with(folder.canonicalize().ok()?) {
        return None;
    }
    let names = std::fs::read_dir(listed).ok()?.flatten().take(NAMES);
    let names: Vec<String> =
        names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let near = dockerfile::nearest(name, names.iter().map(String::as_str))?;
    Some(parent.map_or_else(|| near.clone(), |parent| format!("{parent}/{near}")))
}
