//! Instructions with their parts as types.

use graph::{LineRange, Network, Security};
use oci::Healthcheck;

use crate::error::Error;
use crate::heredoc::Heredoc;
use crate::instructions as parse;
use crate::lexer::Statement;

/// An instruction.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// The keyword as it is written.
    pub keyword: String,
    /// The whole text, continuations joined.
    pub text: String,
    /// Its lines.
    pub lines: LineRange,
    /// Comments directly above it.
    pub comments: Vec<String>,
    /// The instruction's content.
    pub kind: InstructionKind,
}

/// An instruction's content. Texts are as written: variables are resolved later.
#[derive(Clone, Debug)]
pub enum InstructionKind {
    /// `ADD`.
    Add(Box<CopyInstruction>),
    /// `ARG`: names with defaults.
    Arg(Vec<(String, Option<String>)>),
    /// `CMD`.
    Cmd(CommandLine),
    /// `COPY`.
    Copy(Box<CopyInstruction>),
    /// `ENTRYPOINT`.
    Entrypoint(CommandLine),
    /// `ENV`: names and values.
    Env(Vec<(String, String)>),
    /// `EXPOSE`: ports, sorted.
    Expose(Vec<String>),
    /// `FROM`.
    From(FromInstruction),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `LABEL`: names and values.
    Label(Vec<(String, String)>),
    /// `MAINTAINER`.
    Maintainer(String),
    /// `ONBUILD`: the instruction that the image's users run.
    Onbuild(String),
    /// `RUN`.
    Run(Box<RunInstruction>),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `USER`.
    User(String),
    /// `VOLUME`.
    Volume(Vec<String>),
    /// `WORKDIR`.
    Workdir(String),
}

/// `FROM`.
#[derive(Clone, Debug)]
pub struct FromInstruction {
    /// The stage's base: another stage, `scratch`, a named context, an image.
    pub base: String,
    /// The stage's name in lower case.
    pub name: Option<String>,
    /// The platform of the base.
    pub platform: Option<String>,
}

/// A command in shell or exec form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// One text for the shell, or a program and its arguments.
    pub words: Vec<String>,
    /// True if a shell runs it.
    pub shell: bool,
}

/// `RUN`.
#[derive(Clone, Debug)]
pub struct RunInstruction {
    /// The command.
    pub command: CommandLine,
    /// Here-documents in the command.
    pub heredocs: Vec<Heredoc>,
    /// Values of `--mount`.
    pub mounts: Vec<MountText>,
    /// `--network`.
    pub network: Network,
    /// `--security`.
    pub security: Security,
}

/// A `--mount` whose variables are not resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountText {
    /// The whole value.
    pub text: String,
    /// `from`, which has no variables; empty where it is not given.
    pub from: String,
}

/// `COPY` or `ADD`.
#[derive(Clone, Debug, Default)]
pub struct CopyInstruction {
    /// Files, addresses, repositories.
    pub sources: Vec<String>,
    /// Files whose content is in the Dockerfile.
    pub inline: Vec<Heredoc>,
    /// The destination.
    pub destination: String,
    /// `--from`: a stage, a named context, an image.
    pub from: Option<String>,
    /// `--chown`; empty where it is not given.
    pub chown: String,
    /// `--chmod`; empty where it is not given.
    pub chmod: String,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// `--checksum`; empty where it is not given.
    pub checksum: String,
    /// `--unpack`.
    pub unpack: Option<bool>,
}

const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

impl Instruction {
    /// Reads a statement.
    pub(crate) fn parse(statement: Statement, escape: char) -> Result<Self, Error> {
        let kind = kind(&statement, escape).map_err(|error| error.at(statement.lines))?;
        Ok(Self {
            keyword: statement.keyword,
            text: statement.text,
            lines: statement.lines,
            comments: statement.comments,
            kind,
        })
    }

    /// The description of `name` in a comment above: the rest of the line that begins with it.
    pub fn description(&self, name: &str) -> Option<&str> {
        let rest = |line: &'_ String| line.len() > name.len() && line.starts_with(name);
        let line = self.comments.iter().find(|line| rest(line))?;
        line[name.len()..].strip_prefix(' ')
    }
}

fn kind(statement: &Statement, escape: char) -> Result<InstructionKind, Error> {
    use InstructionKind as FlagKind;
    let keyword = statement.keyword.to_ascii_uppercase();
    Ok(match keyword.as_str() {
        "ADD" => FlagKind::Add(Box::new(parse::copy::add(statement)?)),
        "ARG" => FlagKind::Arg(parse::variables::arg(statement, escape)?),
        "CMD" => FlagKind::Cmd(parse::command::command(statement)?),
        "COPY" => FlagKind::Copy(Box::new(parse::copy::copy(statement)?)),
        "ENTRYPOINT" => FlagKind::Entrypoint(parse::command::command(statement)?),
        "ENV" => FlagKind::Env(parse::variables::pairs(statement, "ENV", escape)?),
        "EXPOSE" => FlagKind::Expose(parse::metadata::expose(statement)?),
        "FROM" => FlagKind::From(parse::from::from(statement)?),
        "HEALTHCHECK" => FlagKind::Healthcheck(parse::healthcheck::healthcheck(statement)?),
        "LABEL" => FlagKind::Label(parse::variables::pairs(statement, "LABEL", escape)?),
        "MAINTAINER" => FlagKind::Maintainer(parse::metadata::one(statement, "MAINTAINER")?),
        "ONBUILD" => FlagKind::Onbuild(parse::onbuild::onbuild(statement, escape)?),
        "RUN" => FlagKind::Run(Box::new(parse::run::run(statement)?)),
        "SHELL" => FlagKind::Shell(parse::command::shell(statement)?),
        "STOPSIGNAL" => FlagKind::StopSignal(parse::metadata::one(statement, "STOPSIGNAL")?),
        "USER" => FlagKind::User(parse::metadata::one(statement, "USER")?),
        "VOLUME" => FlagKind::Volume(parse::metadata::volume(statement)?),
        "WORKDIR" => FlagKind::Workdir(parse::metadata::one(statement, "WORKDIR")?),
        _ => {
            let error = Error::new(format!("unknown instruction: {}", statement.keyword));
            let error = error.word(&statement.keyword);
            return Err(match crate::suggest::search(&statement.keyword, KEYWORDS, false) {
                Some(name) => error.hint(format!("did you mean {name}?")),
                None => error
                    .hint("a line that goes on from the one above needs a `\\` at that one's end"),
            });
        }
    })
}
