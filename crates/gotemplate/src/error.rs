//! Errors of templates.

/// A template that cannot be parsed or rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An action without its closing braces.
    #[error("`{{{{{0}` has no `}}}}`")]
    UnclosedAction(String),
    /// A quoted text without its closing quote.
    #[error("{0} has no end")]
    UnclosedText(String),
    /// A bracket without its closing one.
    #[error("a bracket is not closed")]
    UnclosedBracket,
    /// A closing bracket without its opening one.
    #[error("`{0}`: `)` is not expected")]
    UnexpectedBracket(String),
    /// A block without `end`.
    #[error("`{{{{{0}}}}}` has no `{{{{end}}}}`")]
    UnclosedBlock(String),
    /// An `end` or `else` outside of a block.
    #[error("`{{{{{0}}}}}` has no beginning")]
    NoBlock(String),
    /// A second `else`.
    #[error("`{{{{{0}}}}}` comes behind `else`")]
    AfterElse(String),
    /// A part of Go's syntax that is not supported.
    #[error("`{{{{{0}}}}}` is not supported")]
    Unsupported(String),
    /// Two variables outside of `range`.
    #[error("`{0}`: only `range` has two variables")]
    TwoVariables(String),
    /// An action or a stage of a pipeline without content.
    #[error("it is empty")]
    Empty,
    /// A value that has arguments.
    #[error("a value is followed by another; a function's name comes first")]
    NotAFunction,
    /// A quoted text with a wrong escape.
    #[error("{0} is not a text")]
    BadText(String),
    /// A number that cannot be parsed.
    #[error("`{0}` is not a number")]
    BadNumber(String),
    /// Blocks, brackets or pipelines nested too deep.
    #[error("it is nested too deep")]
    TooDeep,

    /// A variable that is not declared.
    #[error("there is no variable `${0}`")]
    NoVariable(String),
    /// A field that the value does not have.
    #[error("there is no `.{field}`; there are {}", known.join(", "))]
    NoField {
        /// The field.
        field: String,
        /// The fields of the value.
        known: Vec<String>,
    },
    /// A field of a text, number or list.
    #[error("`.{0}`: what is before it has no fields")]
    NotAMap(String),
    /// A `range` over a value that is not a list or map.
    #[error("`range` over `{0}`, which is no list")]
    NotAList(String),
    /// An unknown function.
    #[error("there is no function `{0}` in templates here")]
    NoFunction(String),
    /// An index beyond a list's end.
    #[error("`index`: there is no item {index} in a list of {length}")]
    NoItem {
        /// The index, as written.
        index: String,
        /// The list's length.
        length: usize,
    },
    /// An `index` of null.
    #[error("`index` of nothing")]
    IndexOfNull,
    /// An `index` with a value and a key that do not fit each other.
    #[error("`index` needs a list and a number, or a map and a text")]
    BadIndex,
    /// A `join` of a value that is not a list.
    #[error("`join` needs a list and a text")]
    BadJoin,
    /// A verb that `printf` does not support.
    #[error("`printf`: `%{0}` is not supported; %s, %v, %d, %t and %q are")]
    BadVerb(String),
    /// A width or precision that `printf` cannot read.
    #[error("`printf`: `%{0}` is not a width or precision")]
    BadLayout(String),
    /// Rendering takes too many steps.
    #[error("it takes too many steps")]
    TooManySteps,
    /// The output, or a value on the way to it, is too large.
    #[error("the result is too large")]
    TooLarge,
}
