//! The commands that clients run in a builder container.

use service::WorkerInfo;

use crate::facts;
use crate::personalities::buildctl::VERSION;

/// The exit code of a program that is not there, as shells have it.
const NOT_FOUND: i32 = 127;

/// A command in a builder container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BuilderCommand {
    /// `buildctl dial-stdio`: its streams carry BuildKit's API.
    DialStdio,
    /// Something that ends at once.
    Printed(PrintedCommand),
}

/// The output of a command, and its exit code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PrintedCommand {
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) exit_code: i32,
}

/// Reads a command line.
pub(super) fn read(args: &[String], worker: impl FnOnce() -> WorkerInfo) -> BuilderCommand {
    let printed = |stdout: String| {
        BuilderCommand::Printed(PrintedCommand { stdout, ..PrintedCommand::default() })
    };
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["buildctl", rest @ ..] => match without_address(rest) {
            ["dial-stdio"] => BuilderCommand::DialStdio,
            ["debug", "workers"] => printed(workers(&worker())),
            ["--version" | "-v"] => {
                printed(format!("buildctl github.com/moby/buildkit {VERSION} kiln\n"))
            }
            _ => unknown(&words),
        },
        ["buildkitd", "--version" | "-v"] => printed(facts::buildkitd_version()),
        _ => unknown(&words),
    }
}

/// The words after `--addr`, which can only name the socket of this container.
fn without_address<'a>(words: &'a [&'a str]) -> &'a [&'a str] {
    match words {
        ["--addr", address, rest @ ..] if address.starts_with("unix://") => rest,
        [flag, rest @ ..] if flag.starts_with("--addr=unix://") => rest,
        words => words,
    }
}

/// The table of workers, as buildctl prints it.
fn workers(worker: &WorkerInfo) -> String {
    let platforms: Vec<String> = worker.platforms.iter().map(ToString::to_string).collect();
    format!("ID\t\tPLATFORMS\n{}\t\t{}\n", worker.id, platforms.join(","))
}

fn unknown(words: &[&str]) -> BuilderCommand {
    let stderr = format!(
        "`{}` is not run: this container is kiln itself, which knows `buildctl dial-stdio`, `buildctl debug workers` \
         and `buildkitd --version`; `docker buildx du` and `docker buildx prune` see to its cache\n",
        words.first().copied().unwrap_or_default()
    );
    let exit_code = NOT_FOUND;
    BuilderCommand::Printed(PrintedCommand { stderr, exit_code, ..PrintedCommand::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> BuilderCommand {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        super::read(&words, || WorkerInfo {
            id: "kiln".into(),
            platforms: vec!["linux/amd64".parse().unwrap(), "linux/386".parse().unwrap()],
            ..WorkerInfo::default()
        })
    }

    fn printed(line: &str) -> PrintedCommand {
        match read(line) {
            BuilderCommand::Printed(printed) => printed,
            BuilderCommand::DialStdio => panic!("{line}"),
        }
    }

    #[test]
    fn buildxs_commands_are_known() {
        for line in [
            "buildctl dial-stdio",
            "buildctl --addr unix:///run/buildkit/buildkitd.sock dial-stdio",
            "buildctl --addr=unix:///run/buildkit/buildkitd.sock dial-stdio",
        ] {
            assert_eq!(read(line), BuilderCommand::DialStdio, "{line}");
        }
        assert_eq!(
            printed("buildctl debug workers").stdout,
            "ID\t\tPLATFORMS\nkiln\t\tlinux/amd64,linux/386\n"
        );
        // buildx wants four words, of which the third is the version.
        let version = printed("buildkitd --version").stdout;
        assert!(version.split_whitespace().count() == 4 && version.contains(" v0."), "{version}");
    }

    #[test]
    fn other_programs_are_refused_by_name() {
        for (line, name) in [
            ("sh -c id", "`sh`"),
            ("buildctl du", "`buildctl`"),
            ("buildctl --addr tcp://1.2.3.4:1234 dial-stdio", "`buildctl`"),
        ] {
            let printed = printed(line);
            assert!(printed.exit_code == NOT_FOUND && printed.stderr.starts_with(name), "{line}");
        }
    }
}
