//! Go's `text/template` over JSON values: the subset that docker's `--format` flags are used with.
//!
//! Fields, variables, pipelines, `range`, `if`, `with`, and the functions of docker's command line
//! (`json`, `join`, `index`, `printf`, comparisons …). Nested templates, `break` and `continue` are
//! refused by name.
//!
//! Scripts write the names of Go's fields (`.Manifest.MediaType`), while documents have those of
//! JSON (`mediaType`, `diff_ids`). A field that does not exist is therefore looked up once more
//! without regard to case and underscores.
//!
//! Pure: no disk, no network, no clock. Rendering ends: nesting, the work done and the size of
//! texts have limits, since `range` and assignments could otherwise multiply a small value without
//! end.

#![forbid(unsafe_code)]

mod error;
mod evaluator;
mod functions;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub use error::TemplateError;

/// The deepest nesting of blocks, brackets and pipelines.
const MAX_DEPTH: usize = 32;

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    nodes: Vec<parser::TemplateNode>,
    is_indented: bool,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// If the syntax is wrong, or the template uses a part of Go's syntax that is not supported.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self { nodes: parser::parse(text)?, is_indented: false })
    }

    /// The same template with a `json` function that indents, as buildx's does.
    #[must_use]
    pub fn indented(self) -> Self {
        Self { is_indented: true, ..self }
    }

    /// Renders the template for a value.
    ///
    /// # Errors
    /// If a field, variable or function does not exist, an argument has the wrong type, or a limit
    /// is reached.
    pub fn render(&self, value: &Value) -> Result<String, TemplateError> {
        evaluator::Evaluator::new(value, self.is_indented).render(&self.nodes)
    }
}
