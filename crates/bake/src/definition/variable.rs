//! Variables: their defaults, types and validations, and the values that the caller gives them.

use ::hcl::expr::Expression;
use serde_json::Value;

use super::{Attributes, Definition, get, literal, word};
use crate::BakeError;
use crate::error::{Location, Within as _, invalid};
use crate::expression::Scope;
use crate::inputs::is_on;
use crate::value::{boolean, from_f64};

/// A variable.
#[derive(Clone, Debug, Default)]
pub struct Variable {
    /// The value unless the caller gives another.
    pub default: Option<Expression>,
    /// The type that a given value is read as: `string`, `number`, `bool`, `list` …
    pub type_name: Option<String>,
    /// The text for `--list`.
    pub description: Option<String>,
    /// Conditions, with the messages for values that do not meet them.
    pub validations: Vec<(Expression, Option<Expression>)>,
    /// Declared as a block. An attribute outside of all blocks does not look at the environment.
    pub is_block: bool,
}

impl Variable {
    /// Adds what a block says; several blocks of one name add up.
    pub(super) fn add(
        &mut self,
        attributes: Attributes,
        inner: Vec<(String, Attributes)>,
    ) -> Result<(), BakeError> {
        self.is_block = true;
        for (key, value) in attributes {
            match key.as_str() {
                "default" => self.default = Some(value),
                "type" => self.type_name = Some(type_name(&value)),
                "description" => self.description = literal(&value),
                "sensitive" => {}
                _ => return Err(BakeError::Unknown { kind: "attribute", name: key }),
            }
        }
        for (_, attributes) in inner {
            let condition = get(&attributes, "condition").cloned();
            let condition =
                condition.ok_or_else(|| invalid!("a validation needs a `condition`"))?;
            self.validations.push((condition, get(&attributes, "error_message").cloned()));
        }
        Ok(())
    }
}

/// A value that the caller gives.
enum VariableOverride {
    Text(String),
    Json(String),
}

impl Definition {
    /// The value that `--var` or the environment gives a variable.
    fn given(&self, name: &str, variable: &Variable) -> Option<VariableOverride> {
        if let Some(text) = self.given.get(name) {
            return Some(VariableOverride::Text(text.clone()));
        }
        if !variable.is_block || is_on(&self.environment, "BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP") {
            return None;
        }
        if let Some(text) = self.environment.get(name) {
            return Some(VariableOverride::Text(text.clone()));
        }
        self.environment.get(&format!("{name}_JSON")).cloned().map(VariableOverride::Json)
    }

    pub(super) fn value_of(&self, name: &str, variable: &Variable) -> Result<Value, BakeError> {
        let default = variable.default.as_ref();
        let default = default.map(|default| self.evaluate(default, &[])).transpose()?;
        let value = match self.given(name, variable) {
            None => default.unwrap_or(match variable.type_name {
                Some(_) => Value::Null,
                None => Value::String(String::new()),
            }),
            Some(VariableOverride::Json(text)) => serde_json::from_str(&text)
                .map_err(|error| invalid!("`{name}_JSON` is not JSON: {error}"))?,
            Some(VariableOverride::Text(text)) => {
                typed(name, &text, variable.type_name.as_deref(), default.as_ref())?
            }
        };
        // The conditions name the variable itself.
        self.values.borrow_mut().insert(name.to_owned(), value.clone());
        for (condition, message) in &variable.validations {
            if boolean(&Scope::new(self, Vec::new()).evaluate(condition)?)? {
                continue;
            }
            let message =
                message.as_ref().map(|message| self.evaluate(message, &[])).transpose()?;
            let message = message.as_ref().and_then(Value::as_str);
            let error = invalid!("{}", message.unwrap_or("a validation does not hold"));
            return Err(error.within(Location::Variable(name.to_owned())));
        }
        Ok(value)
    }
}

/// A text as a value of a type, which is the default's where none is named.
fn typed(
    name: &str,
    text: &str,
    type_name: Option<&str>,
    default: Option<&Value>,
) -> Result<Value, BakeError> {
    let wrong = |wanted| {
        Err(BakeError::wrong_text(text, wanted)).within(|| Location::Variable(name.to_owned()))
    };
    let type_name = type_name.unwrap_or(match default {
        Some(Value::Bool(_)) => "bool",
        Some(Value::Number(_)) => "number",
        Some(Value::Array(_) | Value::Object(_)) => "list",
        _ => "string",
    });
    match type_name {
        "string" | "any" => Ok(Value::String(text.into())),
        "bool" => match text {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" | "" => Ok(Value::Bool(false)),
            _ => wrong("truth value"),
        },
        "number" => match text.parse::<f64>() {
            Ok(number) => Ok(from_f64(number)),
            Err(_) => wrong("number"),
        },
        // Simple lists are words between commas; others come as NAME_JSON.
        list if list.starts_with("list") || list.starts_with("set") => {
            Ok(text.split(',').filter(|word| !word.is_empty()).map(Value::from).collect())
        }
        other => Err(invalid!("variable `{name}` is of type `{other}`: give it as {name}_JSON")),
    }
}

/// The outermost word of a type: `list` of `list(string)`.
fn type_name(expression: &Expression) -> String {
    match expression {
        Expression::FuncCall(call) => call.name.name.to_string(),
        other => word(other).unwrap_or_else(|| "any".into()),
    }
}
