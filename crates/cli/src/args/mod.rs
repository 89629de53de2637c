//! The command line's grammar: commands and flags, as clap reads them.

pub mod build;
mod call;
pub mod compound;
mod images;
mod other;
mod plan;
mod registry;
mod state;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use build::BuildArgs;
pub use call::{Call, CallKind};
pub use images::{
    HistoryArgs, ImagesArgs, InspectArgs, ListFormat, NameFilter, RmiArgs, TagArgs, list_format,
};
pub use plan::{BuildPlan, BuildPresentation, Inputs, Isolation, plan};
pub use registry::{LoginArgs, LogoutArgs, PullArgs, PushArgs, judge_content_trust};
pub use state::{CompletionArgs, DuArgs, PruneArgs, refuse_filters};

const AFTER_HELP: &str = "\
Examples:
  kiln build -t app .                        build the Dockerfile of this folder
  kiln build -t registry.example.com/app --push .
  kiln images                                what is here

`kiln build --help` has more. `kiln buildx build`, `kiln image build` and `kiln builder build` are
the same as `kiln build`.";

/// Builds container images from Dockerfiles: no daemon, and warm on a cold machine.
#[derive(Clone, Debug, Parser)]
#[command(name = "kiln", bin_name = "kiln", version = crate::commands::version::TEXT, after_help = AFTER_HELP)]
#[command(disable_help_subcommand = true, infer_long_args = false)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Everywhere")]
pub struct GlobalArgs {
    /// Where kiln keeps its state (default: KILN_ROOT, or /var/lib/kiln for root and
    /// ~/.local/share/kiln for others)
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    pub root: Option<PathBuf>,

    /// Say more when something goes wrong
    #[arg(short = 'D', long, global = true, help_heading = "Everywhere")]
    pub debug: bool,
}

/// What kiln does.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Build an image from a Dockerfile
    #[command(visible_alias = "b")]
    Build(Box<BuildArgs>),
    /// Say what a Dockerfile should not do, without building it
    Check(Box<BuildArgs>),
    /// Log in to a registry
    Login(LoginArgs),
    /// Log out of a registry
    Logout(LogoutArgs),
    /// Push an image to its registry
    Push(PushArgs),
    /// Fetch an image from its registry
    Pull(PullArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// List the images that are here
    Images(ImagesArgs),
    /// Remove images
    Rmi(RmiArgs),
    /// The same commands by docker's longer names
    #[command(subcommand, hide = true)]
    Image(ImageCommand),
    /// Show an image's configuration as JSON
    Inspect(InspectArgs),
    /// Show the steps that made an image
    History(HistoryArgs),
    /// Show what takes how much disk
    Du(DuArgs),
    /// Remove what is not needed
    Prune(PruneArgs),
    /// Show kiln's version
    Version,
    /// Print a shell's completions of kiln
    Completion(CompletionArgs),
    /// The same commands by buildx' names
    #[command(subcommand, hide = true)]
    Buildx(BuilderCommand),
    /// The same commands by docker's longer names
    #[command(subcommand, hide = true)]
    Builder(BuilderCommand),
}

/// `kiln image …`.
#[derive(Clone, Debug, Subcommand)]
pub enum ImageCommand {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Show an image's configuration as JSON
    Inspect(InspectArgs),
    /// List the images that are here
    #[command(alias = "list")]
    Ls(ImagesArgs),
    /// Remove images
    #[command(alias = "remove")]
    Rm(RmiArgs),
    /// Fetch an image from its registry
    Pull(PullArgs),
    /// Push an image to its registry
    Push(PushArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Show the steps that made an image
    History(HistoryArgs),
    /// Anything else.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// `kiln buildx …` and `kiln builder …`.
#[derive(Clone, Debug, Subcommand)]
pub enum BuilderCommand {
    /// Build an image from a Dockerfile
    #[command(alias = "b")]
    Build(Box<BuildArgs>),
    /// Show what takes how much disk
    Du(DuArgs),
    /// Remove what is not needed
    Prune(PruneArgs),
    /// Show kiln's version
    Version,
    /// Anything else.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

impl Command {
    /// The same command by its short name.
    ///
    /// # Errors
    /// A sentence that names a command of docker's that is not there yet.
    pub fn canonical(self) -> Result<Self, String> {
        let command = match self {
            Self::Image(image) => match image {
                ImageCommand::Build(args) => Self::Build(args),
                ImageCommand::Inspect(args) => Self::Inspect(args),
                ImageCommand::Ls(args) => Self::Images(args),
                ImageCommand::Rm(args) => Self::Rmi(args),
                ImageCommand::Pull(args) => Self::Pull(args),
                ImageCommand::Push(args) => Self::Push(args),
                ImageCommand::Tag(args) => Self::Tag(args),
                ImageCommand::History(args) => Self::History(args),
                ImageCommand::Other(words) => return Err(missing("image", &words)),
            },
            Self::Buildx(builder) => builder.canonical("buildx")?,
            Self::Builder(builder) => builder.canonical("builder")?,
            command => command,
        };
        Ok(command)
    }

    /// The build that is asked for, by whatever name.
    #[cfg(test)]
    fn as_build(&self) -> Option<&BuildArgs> {
        match self {
            Self::Build(args)
            | Self::Image(ImageCommand::Build(args))
            | Self::Buildx(BuilderCommand::Build(args))
            | Self::Builder(BuilderCommand::Build(args)) => Some(args),
            _ => None,
        }
    }
}

impl BuilderCommand {
    fn canonical(self, family: &str) -> Result<Command, String> {
        match self {
            Self::Build(args) => Ok(Command::Build(args)),
            Self::Du(args) => Ok(Command::Du(args)),
            Self::Prune(args) => Ok(Command::Prune(args)),
            Self::Version => Ok(Command::Version),
            Self::Other(words) => Err(missing(family, &words)),
        }
    }
}

/// Commands of buildx and docker that there is nothing for here.
fn missing(family: &str, words: &[OsString]) -> String {
    let word = words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    let known_builders = ["create", "use", "ls", "inspect", "stop", "rm", "install", "uninstall"];
    match family {
        "buildx" | "builder" if known_builders.contains(&&*word) => {
            format!(
                "`kiln {family} {word}`: kiln has no builders to manage; `kiln build` needs none"
            )
        }
        _ => format!("`kiln {family} {word}` is not there yet; `kiln --help` lists what is"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_in_the_help_is_explained() {
        let mut command = Cli::command();
        command.build();
        for subcommand in command.get_subcommands() {
            for argument in subcommand.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(
                    argument.get_help().is_some(),
                    "{}: {}",
                    subcommand.get_name(),
                    argument.get_id()
                );
            }
        }
    }

    #[test]
    fn commands_of_docker_have_their_short_names() {
        for (line, matches) in [
            (&["kiln", "image", "ls", "-q"][..], true),
            (&["kiln", "images"], true),
            (&["kiln", "image", "prune"], false),
            (&["kiln", "buildx", "bake", "-f", "x"], false),
            (&["kiln", "buildx", "create", "--use"], false),
        ] {
            let command = Cli::try_parse_from(line).unwrap().command.canonical();
            assert_eq!(matches!(command, Ok(Command::Images(_))), matches, "{line:?}");
            if let Err(error) = command {
                assert!(error.starts_with(&format!("`kiln {} {}`", line[1], line[2])), "{error}");
            }
        }
    }
}
