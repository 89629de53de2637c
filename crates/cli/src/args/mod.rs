//! The command line's grammar: commands and flags, as clap reads them.

pub mod build;
mod build_arguments;
pub mod build_flags;
mod cache;
mod call;
pub mod compound;
mod error;
pub mod flag;
mod frontend;
mod images;
mod isolation;
mod other;
mod outputs;
mod registry;
mod serve;
mod state;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use bake::quantity::duration;
pub use build::{BuildArgs, Engine};
pub use build_flags::{BuildFlags, FlagContext};
pub use cache::{CacheCommand, CacheRef, CopyArgs, PruneCacheArgs};
pub use call::{Call, CallKind};
pub use compound::context::ContextFlag;
pub use error::{FlagError, InFlag};
pub use frontend::{ClientLocals, FrontendOptions, Locals};
pub use images::{
    HistoryArgs, ImagesArgs, InspectArgs, ListFormat, NameFilter, RmiArgs, TagArgs, list_format,
};
pub use isolation::{isolation_of_flag, isolation_or_setting};
#[cfg(test)]
pub use other::described;
pub use registry::{LoginArgs, LogoutArgs, PullArgs, PushArgs, judge_content_trust};
pub use serve::ServeArgs;
pub use state::{CompletionArgs, DuArgs, PruneArgs, disk_filter};

pub use crate::human::disk_size;

const AFTER_HELP: &str = "\
Examples:
  kiln build -t app .                        build the Dockerfile of this folder
  kiln build -t registry.example.com/app --push .
  kiln images                                what is here

`kiln build --help` has more. `kiln buildx build`, `kiln image build` and `kiln builder build` are
the same as `kiln build`.";

/// The help of `kiln`, with its commands grouped by purpose.
const HELP: &str = "\
{about}

{usage-heading} {usage}

Build:
  build, b    Build an image from a Dockerfile
  bake        Build the targets of bake and compose files
  check       Say what a Dockerfile should not do, without building it

Images of this machine:
  images      List the images that are here
  inspect     Show an image's configuration as JSON
  history     Show the steps that made an image
  tag         Give an image another name
  rmi         Remove images
  save, load  Write images to an archive, read them from one

Registries:
  login       Log in to a registry
  logout      Log out of a registry
  push        Push an image to its registry
  pull        Fetch an image from its registry

Caches and disk:
  cache       Look after build caches elsewhere: list, verify, prune, copy, explain
  du          Show what takes how much disk
  prune       Remove what is not needed

Service:
  serve       Answer docker's and BuildKit's clients on sockets

Other tools' command lines (docs/personalities.md):
  docker, buildx, buildctl, kaniko, warmer, makisu, dockerd, buildkitd

About kiln:
  version     Show kiln's version
  completion  Print a shell's completions of kiln

{options}{after-help}";

/// Builds container images from Dockerfiles: no daemon, and warm on a cold machine.
#[derive(Clone, Debug, Parser)]
#[command(name = "kiln", bin_name = "kiln", version = crate::commands::version::TEXT, after_help = AFTER_HELP)]
#[command(disable_help_subcommand = true, infer_long_args = false, help_template = HELP)]
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
    /// Show an image's configuration as JSON
    Inspect(InspectArgs),
    /// Show the steps that made an image
    History(HistoryArgs),
    /// Look after build caches elsewhere: list, verify, prune, copy, explain
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Show what takes how much disk
    Du(DuArgs),
    /// Remove what is not needed
    Prune(PruneArgs),
    /// Answer docker's and BuildKit's clients on sockets
    Serve(ServeArgs),
    /// Show kiln's version
    Version,
    /// Print a shell's completions of kiln
    Completion(CompletionArgs),
}

#[cfg(test)]
impl Command {
    /// The arguments of `kiln build`, if that is the command.
    pub fn as_build(&self) -> Option<&BuildArgs> {
        match self {
            Self::Build(args) => Some(args),
            _ => None,
        }
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
    fn every_command_is_in_a_group_of_the_help() {
        for subcommand in Cli::command().get_subcommands().filter(|command| !command.is_hide_set())
        {
            let line = format!("\n  {}", subcommand.get_name());
            assert!(HELP.contains(&line), "`{}` is in no group", subcommand.get_name());
        }
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
}
