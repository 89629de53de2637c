//! From the text of a Dockerfile to a graph.
//!
//! Receives a text, what a build is asked ([`LowerRequest`]) and, as far as they are known, the images
//! that it builds on ([`Images`]). Hands over what images are missing or the graph with the image
//! config ([`Lowering`]), and what the text should not say ([`Finding`]). Text becomes statements (`lexer`), statements instructions
//! (`instruction`, `instructions`), instructions stages (`stage`), stages steps (`lower`).
//! Invariant: no disk, network, clock or environment; the same inputs give the same graph, and
//! its operations are those that BuildKit's Dockerfile frontend makes, as cache keys depend on
//! them. What is not understood is refused with its lines, never left aside.

#![forbid(unsafe_code)]

mod check;
mod directives;
mod error;
mod expand;
mod finding;
mod flags;
mod glob;
mod go;
mod heredoc;
mod ignore;
mod instruction;
mod instructions;
mod lexer;
mod lower;
mod path;
mod stage;
mod suggest;
mod words;

pub use check::{Argument, Checked, Checking, Outline, Outlining, RULES, Rule, TargetStage};
pub use directives::CheckOptions;
pub use error::Error;
pub use finding::Finding;
pub use heredoc::Heredoc;
pub use ignore::ignore_patterns;
pub use instruction::{
    CommandLine, CopyInstruction, FromInstruction, Instruction, InstructionKind, MountText,
    RunInstruction,
};
pub use lower::{
    AgentUse, Context, ContextUse, GitAddress, HistoryLayer, ImageLookupError, ImageRequest,
    Images, LowerRequest, Lowered, Lowering, NoCache, ResolvedImage, SecretUse, StageSummary,
};
pub use stage::{Dockerfile, Stage};
pub use suggest::nearest;
