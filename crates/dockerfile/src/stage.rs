//! A parsed Dockerfile: stages and what is in front of them.

use graph::{LineRange, SourceFile};

use crate::directives::{self, CheckOptions};
use crate::error::Error;
use crate::instruction::{Instruction, InstructionKind};
use crate::lexer;

/// A Dockerfile whose text is in order; not yet what it means for a build.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    pub(crate) source: SourceFile,
    pub(crate) escape: char,
    pub(crate) syntax: Option<(String, Option<LineRange>)>,
    pub(crate) check: CheckOptions,
    pub(crate) global_args: Vec<Instruction>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) empty_continuations: Vec<LineRange>,
}

/// A `FROM` and what is below it.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The name in lower case, where it has one.
    pub name: Option<String>,
    /// Its base, variables not resolved.
    pub base: String,
    /// `--platform`, variables not resolved.
    pub platform: Option<String>,
    /// The lines of its `FROM`.
    pub lines: LineRange,
    /// The text of its `FROM`.
    pub text: String,
    /// Comments directly above its `FROM`.
    pub comments: Vec<String>,
    /// The description in a comment above its `FROM`.
    pub description: Option<String>,
    /// Its instructions.
    pub instructions: Vec<Instruction>,
}

impl Dockerfile {
    /// Reads a Dockerfile.
    ///
    /// # Errors
    /// If it is no Dockerfile: unknown instructions or flags, wrong forms of known ones.
    pub fn parse(source: SourceFile) -> Result<Self, Error> {
        let named = source.clone();
        Self::parse_source(source).map_err(|error| error.located(&named))
    }

    fn parse_source(source: SourceFile) -> Result<Self, Error> {
        let text = source.text.clone();
        if text.is_empty() {
            return Err(Error::new("the Dockerfile cannot be empty")
                .hint("the least that can be built is `FROM scratch`"));
        }
        let syntax = directives::detect("syntax", &text);
        let foreign = syntax.as_ref().filter(|(value, _)| !directives::is_known_syntax(value));
        let result = Self::parse_text(source, &text, syntax.clone());
        match (result, foreign) {
            // The fault is most likely that the text is in another language.
            (Err(_), Some((value, lines))) => {
                Err(Error { lines: *lines, ..directives::foreign_syntax(value) })
            }
            (result, _) => result,
        }
    }

    fn parse_text(
        source: SourceFile,
        text: &str,
        syntax: Option<(String, Option<LineRange>)>,
    ) -> Result<Self, Error> {
        let lexed = lexer::lex(text)?;
        let check = match directives::detect("check", text) {
            Some((value, lines)) => {
                CheckOptions::parse(&value).map_err(|error| Error { lines, ..error })?
            }
            None => CheckOptions::default(),
        };
        let mut file = Self {
            source,
            escape: lexed.escape,
            syntax,
            check,
            global_args: Vec::new(),
            stages: Vec::new(),
            empty_continuations: lexed.empty_continuations,
        };
        for statement in lexed.statements {
            file.add(Instruction::parse(statement, lexed.escape)?)?;
        }
        match file.stages.is_empty() {
            true => Err(Error::new("dockerfile contains no stages to build")
                .hint("a stage begins with FROM, as in `FROM scratch`")),
            false => Ok(file),
        }
    }

    fn add(&mut self, instruction: Instruction) -> Result<(), Error> {
        match (&instruction.kind, self.stages.last_mut()) {
            (InstructionKind::From(from), _) => self.stages.push(Stage {
                name: from.name.clone(),
                base: from.base.clone(),
                platform: from.platform.clone(),
                lines: instruction.lines,
                description: from
                    .name
                    .as_ref()
                    .and_then(|name| instruction.description(name))
                    .map(Into::into),
                comments: instruction.comments,
                text: instruction.text,
                instructions: Vec::new(),
            }),
            (InstructionKind::Arg(_), None) => self.global_args.push(instruction),
            (_, Some(stage)) => stage.instructions.push(instruction),
            (_, None) => {
                return Err(Error::new("no build stage in current context")
                    .at(instruction.lines)
                    .word(instruction.keyword)
                    .hint("only ARG may stand before the first FROM"));
            }
        }
        Ok(())
    }

    /// The text that it was read from.
    pub fn source(&self) -> &SourceFile {
        &self.source
    }

    /// Its stages in order.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// `ARG` instructions before the first `FROM`.
    pub fn global_args(&self) -> &[Instruction] {
        &self.global_args
    }

    /// The options of its `check` directive.
    pub fn check_options(&self) -> &CheckOptions {
        &self.check
    }

    /// The language named by its `syntax` directive.
    pub fn syntax(&self) -> Option<&str> {
        self.syntax.as_ref().map(|(value, _)| value.as_str())
    }
}
