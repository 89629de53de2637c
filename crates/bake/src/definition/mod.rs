//! Bake files before evaluation: blocks, variables and functions, whatever file they come from.

mod hcl;
mod json;
#[cfg(test)]
mod tests;
mod variable;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ::hcl::expr::{Expression, TemplateExpr};
use serde_json::Value;

use crate::BakeError;
use crate::budget::Budget;
use crate::error::{Location, Within as _, invalid};
use crate::expression::{Function, Functions, Names, Scope};

pub use variable::Variable;

/// The steps that a target counts as.
const TARGET_STEPS: usize = 200;

/// Attributes of a block, in the order of the file.
pub type Attributes = Vec<(String, Expression)>;

/// A block with a name.
#[derive(Clone, Debug)]
pub struct NamedBlock {
    /// Its name.
    pub name: String,
    /// Its attributes.
    pub attributes: Attributes,
}

impl NamedBlock {
    /// An attribute's expression.
    pub fn get(&self, name: &str) -> Option<&Expression> {
        get(&self.attributes, name)
    }
}

fn get<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a Expression> {
    attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

/// Everything that bake files define.
#[derive(Default)]
pub struct Definition {
    /// Groups in the order of the files; a name can occur several times.
    pub groups: Vec<NamedBlock>,
    /// Targets in the order of the files; a name can occur several times.
    pub targets: Vec<NamedBlock>,
    /// Variables by their names.
    pub variables: BTreeMap<String, Variable>,
    functions: Functions,
    /// `--var`.
    pub given: BTreeMap<String, String>,
    /// The caller's environment.
    pub environment: BTreeMap<String, String>,
    /// Values of variables that were evaluated.
    values: RefCell<BTreeMap<String, Value>>,
    /// Variables and attributes that are being evaluated: one that is met again is a cycle.
    pending: RefCell<BTreeSet<String>>,
    budget: Budget,
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of the environment can be secrets.
        f.debug_struct("Definition").finish_non_exhaustive()
    }
}

/// A block of a file, of whatever kind.
struct RawBlock {
    kind: String,
    name: String,
    attributes: Attributes,
    /// Blocks within it, with their kinds.
    inner: Vec<(String, Attributes)>,
}

impl Definition {
    /// A definition without files, with the values of `--var` and the caller's environment.
    pub fn new(given: BTreeMap<String, String>, environment: BTreeMap<String, String>) -> Self {
        Self { given, environment, ..Self::default() }
    }

    fn add_constant(&mut self, name: String, value: Expression) {
        let variable = Variable { default: Some(value), ..Variable::default() };
        self.variables.insert(name, variable);
    }

    fn add(&mut self, block: RawBlock) -> Result<(), BakeError> {
        let RawBlock { kind, name, attributes, inner } = block;
        if let Some((other, _)) = inner.iter().find(|(inner, _)| inner != "validation") {
            return Err(invalid!("`{kind} \"{name}\"`: there is no block `{other}` in it"));
        }
        match kind.as_str() {
            "group" => self.groups.push(NamedBlock { name, attributes }),
            "target" => self.targets.push(NamedBlock { name, attributes }),
            "function" => {
                let location = || Location::Key(format!("function \"{name}\""));
                let function = function(attributes).within(location)?;
                self.functions.insert(name, function);
            }
            "variable" => {
                let variable = self.variables.entry(name.clone()).or_default();
                let location = || Location::Key(format!("variable \"{name}\""));
                variable.add(attributes, inner).within(location)?;
            }
            _ => {
                return Err(invalid!(
                    "there are no blocks `{kind}`; there are group, target, variable and function"
                ));
            }
        }
        Ok(())
    }

    /// The value of an attribute that sees some names of its own.
    ///
    /// # Errors
    /// If it cannot be evaluated.
    pub fn evaluate(
        &self,
        expression: &Expression,
        locals: &[(String, Value)],
    ) -> Result<Value, BakeError> {
        Scope::new(self, locals.to_vec()).evaluate(expression)
    }

    /// Counts a target, of which a matrix makes many.
    ///
    /// # Errors
    /// If there are too many.
    pub fn count_target(&self) -> Result<(), BakeError> {
        self.budget.charge(TARGET_STEPS)
    }

    /// Evaluates what has a name of its own, and must not need itself.
    fn once(
        &self,
        name: &str,
        evaluate: impl FnOnce() -> Result<Value, BakeError>,
    ) -> Result<Value, BakeError> {
        if !self.pending.borrow_mut().insert(name.to_owned()) {
            return Err(BakeError::Cycle(name.to_owned()));
        }
        let value = evaluate();
        self.pending.borrow_mut().remove(name);
        value
    }
}

impl Names for Definition {
    fn variable(&self, name: &str) -> Result<Option<Value>, BakeError> {
        if let Some(value) = self.values.borrow().get(name) {
            return Ok(Some(value.clone()));
        }
        match name {
            "BAKE_CMD_CONTEXT" => return Ok(Some("cwd://".into())),
            "BAKE_LOCAL_PLATFORM" => return Ok(Some(oci::Platform::host().to_string().into())),
            _ => {}
        }
        let Some(variable) = self.variables.get(name) else { return Ok(None) };
        let path = format!("variable `{name}`");
        self.once(&path, || self.value_of(name, variable)).map(Some)
    }

    fn function(&self, name: &str) -> Option<&Function> {
        self.functions.get(name)
    }

    fn attribute(&self, kind: &str, block: &str, name: &str) -> Result<Value, BakeError> {
        let blocks = if kind == "target" { &self.targets } else { &self.groups };
        let path = format!("{kind}.{block}.{name}");
        self.budget.charge(blocks.len() / 16)?;
        let value = blocks
            .iter()
            .rev()
            .filter(|known| known.name == block)
            .find_map(|known| known.get(name))
            .ok_or_else(|| invalid!("there is no `{path}`"))?;
        self.once(&format!("`{path}`"), || self.evaluate(value, &[]))
    }

    fn home(&self) -> Option<String> {
        self.environment.get("HOME").cloned()
    }

    fn budget(&self) -> &Budget {
        &self.budget
    }
}

fn function(attributes: Attributes) -> Result<Function, BakeError> {
    let (mut parameters, mut variadic, mut result) = (Vec::new(), None, None);
    for (key, value) in attributes {
        match (key.as_str(), value) {
            ("params", Expression::Array(items)) => {
                parameters = items.iter().filter_map(word).collect();
            }
            ("variadic_params", value) => variadic = word(&value),
            ("result", value) => result = Some(value),
            (key, _) => return Err(invalid!("`{key}` is not as it should be")),
        }
    }
    let result = result.ok_or_else(|| invalid!("there is no `result`"))?;
    Ok(Function { parameters, variadic, result })
}

/// The text of a bare word or a quoted one.
fn word(expression: &Expression) -> Option<String> {
    match expression {
        Expression::Variable(name) => Some(name.as_str().to_owned()),
        other => literal(other),
    }
}

/// The text of a quoted text, without evaluating it.
fn literal(expression: &Expression) -> Option<String> {
    match expression {
        Expression::String(text) => Some(text.clone()),
        Expression::TemplateExpr(template) => match &**template {
            TemplateExpr::QuotedString(text) => Some(text.clone()),
            TemplateExpr::Heredoc(_) => None,
        },
        _ => None,
    }
}
