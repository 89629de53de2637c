//! Bake files: HCL, or the same as JSON. What they say before it is evaluated.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use hcl::expr::{Expression, ObjectKey, TemplateExpr};
use hcl::{Block, Body};
use serde_json::Value;

use super::expression::{Function, Functions, Names, Scope, boolean, from_f64};
use crate::settings::Environment;

/// A larger text is no bake file.
pub const LARGEST: usize = 4 << 20;

/// Attributes of a block, in their order.
pub type Attributes = Vec<(String, Expression)>;

/// A block with a name.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// What it says.
    pub attributes: Attributes,
}

/// A variable.
#[derive(Clone, Debug, Default)]
pub struct Variable {
    /// What it is if nothing else says so.
    pub default: Option<Expression>,
    /// The type that it has to be of (`string`, `number`, `bool`, or another as text).
    pub kind: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Conditions with what is said if they do not hold.
    pub validations: Vec<(Expression, Option<Expression>)>,
    /// Whether the environment counts: not for an attribute outside of all blocks.
    pub is_block: bool,
}

/// Everything that files say.
#[derive(Debug, Default)]
pub struct Definition {
    /// Groups, in their order; one name can be there several times.
    pub groups: Vec<Named>,
    /// Targets, in their order; one name can be there several times.
    pub targets: Vec<Named>,
    /// Variables by their names.
    pub variables: BTreeMap<String, Variable>,
    functions: Functions,
    /// `--var`.
    pub given: BTreeMap<String, String>,
    /// Where variables get their values.
    pub environment: Environment,
    known: RefCell<BTreeMap<String, Value>>,
    asked: RefCell<BTreeSet<String>>,
}

impl Definition {
    /// Adds what an HCL file says.
    ///
    /// # Errors
    /// A sentence that names what cannot be read, or is not known.
    pub fn add_hcl(&mut self, text: &str) -> Result<(), String> {
        let body: Body = hcl::parse(text).map_err(|error| format!("{error}"))?;
        for structure in body {
            match structure {
                hcl::Structure::Attribute(attribute) => {
                    self.add_constant(attribute.key().to_owned(), attribute.expr().clone());
                }
                hcl::Structure::Block(block) => self.add_block(&block)?,
            }
        }
        Ok(())
    }

    fn add_constant(&mut self, name: String, value: Expression) {
        let variable = Variable { default: Some(value), ..Variable::default() };
        self.variables.insert(name, variable);
    }

    fn add_block(&mut self, block: &Block) -> Result<(), String> {
        let kind = block.identifier();
        let [label] = block.labels() else {
            return Err(format!("a `{kind}` has one name, as `{kind} \"app\"`"));
        };
        let attributes: Attributes = block
            .body()
            .attributes()
            .map(|attribute| (attribute.key().to_owned(), attribute.expr().clone()))
            .collect();
        let mut inner = Vec::new();
        for block in block.body().blocks() {
            let own = block.body().attributes();
            let own = own.map(|a| (a.key().to_owned(), a.expr().clone())).collect();
            inner.push((block.identifier().to_owned(), own));
        }
        self.add(kind, label.as_str(), attributes, inner)
    }

    fn add(
        &mut self,
        kind: &str,
        name: &str,
        attributes: Attributes,
        inner: Vec<(String, Attributes)>,
    ) -> Result<(), String> {
        if let Some((other, _)) = inner.iter().find(|(inner, _)| inner != "validation") {
            return Err(format!("`{kind} \"{name}\"`: there is no block `{other}` in it"));
        }
        match kind {
            "group" => self.groups.push(Named { name: name.into(), attributes }),
            "target" => self.targets.push(Named { name: name.into(), attributes }),
            "function" => {
                let function = function(name, attributes)?;
                self.functions.insert(name.into(), function);
            }
            "variable" => {
                let variable = self.variables.entry(name.into()).or_default();
                variable.is_block = true;
                for (key, value) in attributes {
                    match key.as_str() {
                        "default" => variable.default = Some(value),
                        "type" => variable.kind = Some(type_name(&value)),
                        "description" => variable.description = plain(&value),
                        "sensitive" => {}
                        _ => {
                            return Err(format!(
                                "`variable \"{name}\"`: there is no attribute `{key}`"
                            ));
                        }
                    }
                }
                for (_, attributes) in inner {
                    let find = |wanted: &str| {
                        attributes
                            .iter()
                            .find(|(key, _)| key == wanted)
                            .map(|(_, value)| value.clone())
                    };
                    let condition = find("condition").ok_or_else(|| {
                        format!("`variable \"{name}\"`: a validation needs a `condition`")
                    })?;
                    variable.validations.push((condition, find("error_message")));
                }
            }
            _ => {
                return Err(format!(
                    "there are no blocks `{kind}`; there are group, target, variable and function"
                ));
            }
        }
        Ok(())
    }

    /// Adds what a JSON file says: the same, with templates in its texts.
    ///
    /// # Errors
    /// As [`Definition::add_hcl`].
    pub fn add_json(&mut self, text: &str) -> Result<(), String> {
        let root: Value = serde_json::from_str(text).map_err(|error| format!("{error}"))?;
        let Value::Object(root) = root else { return Err("it is no object".into()) };
        for (kind, value) in root {
            let is_block = matches!(kind.as_str(), "group" | "target" | "variable" | "function");
            match value {
                Value::Object(blocks) if is_block => {
                    for (name, block) in blocks {
                        let Value::Object(block) = block else {
                            return Err(format!("`{kind}.{name}` is no object"));
                        };
                        let (mut attributes, mut inner) = (Vec::new(), Vec::new());
                        for (key, value) in block {
                            match (key.as_str(), value) {
                                ("validation", value) => {
                                    let all = match value {
                                        Value::Array(all) => all,
                                        one => vec![one],
                                    };
                                    for one in all.into_iter().filter_map(|one| match one {
                                        Value::Object(one) => Some(one),
                                        _ => None,
                                    }) {
                                        let own = one.into_iter();
                                        let own = own.map(|(key, value)| (key, of_json(value)));
                                        inner.push(("validation".into(), own.collect()));
                                    }
                                }
                                ("params" | "inherits" | "type" | "variadic_params", value) => {
                                    attributes.push((key, of_json(value)));
                                }
                                (_, value) => attributes.push((key, of_json(value))),
                            }
                        }
                        self.add(&kind, &name, attributes, inner)?;
                    }
                }
                value => self.add_constant(kind, of_json(value)),
            }
        }
        Ok(())
    }

    /// The value of an attribute, with names of its own.
    ///
    /// # Errors
    /// A sentence that names what is wrong.
    pub fn evaluate(
        &self,
        expression: &Expression,
        locals: &[(String, Value)],
    ) -> Result<Value, String> {
        Scope::new(self, locals.to_vec()).evaluate(expression)
    }

    /// What the environment or `--var` says of a variable.
    fn outside(&self, name: &str, variable: &Variable) -> Option<(String, bool)> {
        let is_off = self.environment.get("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP");
        let is_off = is_off.is_some_and(|value| !matches!(value, "0" | "false"));
        if let Some(text) = self.given.get(name) {
            return Some((text.clone(), false));
        }
        if !variable.is_block || is_off {
            return None;
        }
        let json = self.environment.raw(&format!("{name}_JSON"));
        if let Some(json) = json.filter(|_| self.environment.raw(name).is_none()) {
            return Some((json.to_owned(), true));
        }
        self.environment.raw(name).map(|text| (text.to_owned(), false))
    }

    fn value_of(&self, scope: &Scope<'_>, name: &str) -> Result<Option<Value>, String> {
        let Some(variable) = self.variables.get(name) else { return Ok(None) };
        let default = match &variable.default {
            Some(expression) => Some(Scope::new(self, Vec::new()).evaluate(expression)?),
            None => None,
        };
        let value = match self.outside(name, variable) {
            None => default.unwrap_or(match variable.kind {
                Some(_) => Value::Null,
                None => Value::String(String::new()),
            }),
            Some((text, true)) => serde_json::from_str(&text)
                .map_err(|error| format!("`{name}_JSON` is not JSON: {error}"))?,
            Some((text, false)) => typed(name, &text, variable.kind.as_deref(), default.as_ref())?,
        };
        self.known.borrow_mut().insert(name.to_owned(), value.clone());
        for (condition, message) in &variable.validations {
            let holds = Scope::new(self, Vec::new()).evaluate(condition)?;
            if !boolean(&holds)? {
                let message = message.as_ref().map(|message| self.evaluate(message, &[]));
                let message =
                    message.transpose()?.and_then(|text| text.as_str().map(str::to_owned));
                let message = message.unwrap_or_else(|| "a validation does not hold".into());
                return Err(format!("variable `{name}`: {message}"));
            }
        }
        let _ = scope;
        Ok(Some(value))
    }
}

impl Names for Definition {
    fn variable(&self, scope: &Scope<'_>, name: &str) -> Result<Option<Value>, String> {
        if let Some(value) = self.known.borrow().get(name) {
            return Ok(Some(value.clone()));
        }
        match name {
            "BAKE_CMD_CONTEXT" => return Ok(Some(Value::String("cwd://".into()))),
            "BAKE_LOCAL_PLATFORM" => {
                return Ok(Some(Value::String(oci::Platform::host().to_string())));
            }
            _ => {}
        }
        if !self.asked.borrow_mut().insert(name.to_owned()) {
            return Err(format!("variable `{name}` stands on itself"));
        }
        let value = self.value_of(scope, name);
        self.asked.borrow_mut().remove(name);
        value
    }

    fn function(&self, name: &str) -> Option<&Function> {
        self.functions.get(name)
    }

    fn attribute(&self, kind: &str, block: &str, name: &str) -> Result<Value, String> {
        let blocks = if kind == "target" { &self.targets } else { &self.groups };
        let found = blocks.iter().rev().filter(|known| known.name == block);
        let mut attributes = found.flat_map(|known| &known.attributes);
        let path = format!("{kind}.{block}.{name}");
        let (_, value) = attributes
            .find(|(own, _)| own == name)
            .ok_or_else(|| format!("there is no `{path}`"))?;
        if !self.asked.borrow_mut().insert(path.clone()) {
            return Err(format!("`{path}` stands on itself"));
        }
        let value = Scope::new(self, Vec::new()).evaluate(value);
        self.asked.borrow_mut().remove(&path);
        value
    }

    fn home(&self) -> Option<String> {
        self.environment.raw("HOME").map(str::to_owned)
    }
}

/// A variable's text as a value: of its type, or that of its default.
fn typed(
    name: &str,
    text: &str,
    kind: Option<&str>,
    default: Option<&Value>,
) -> Result<Value, String> {
    let wrong = |wanted: &str| Err(format!("variable `{name}`: `{text}` is no {wanted}"));
    let kind = kind.unwrap_or(match default {
        Some(Value::Bool(_)) => "bool",
        Some(Value::Number(_)) => "number",
        Some(Value::Array(_) | Value::Object(_)) => "list",
        _ => "string",
    });
    match kind {
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
        kind if kind.starts_with("list") || kind.starts_with("set") => {
            Ok(text.split(',').filter(|word| !word.is_empty()).map(Value::from).collect())
        }
        kind => Err(format!("variable `{name}` is of type `{kind}`: give it as {name}_JSON")),
    }
}

fn function(name: &str, attributes: Attributes) -> Result<Function, String> {
    let (mut parameters, mut variadic, mut result) = (Vec::new(), None, None);
    for (key, value) in attributes {
        match (key.as_str(), value) {
            ("params", Expression::Array(items)) => {
                parameters = items.iter().filter_map(word).collect();
            }
            ("variadic_params", value) => variadic = word(&value),
            ("result", value) => result = Some(value),
            (key, _) => {
                return Err(format!("`function \"{name}\"`: `{key}` is not as it should be"));
            }
        }
    }
    let result = result.ok_or_else(|| format!("`function \"{name}\"` has no `result`"))?;
    Ok(Function { parameters, variadic, result })
}

/// A bare word, or a text.
fn word(expression: &Expression) -> Option<String> {
    match expression {
        Expression::Variable(name) => Some(name.as_str().to_owned()),
        other => plain(other),
    }
}

fn plain(expression: &Expression) -> Option<String> {
    match expression {
        Expression::String(text) => Some(text.clone()),
        Expression::TemplateExpr(template) => match &**template {
            TemplateExpr::QuotedString(text) => Some(text.clone()),
            TemplateExpr::Heredoc(_) => None,
        },
        _ => None,
    }
}

/// `string`, `list(string)`: only the outermost word counts.
fn type_name(expression: &Expression) -> String {
    match expression {
        Expression::FuncCall(call) => call.name.name.to_string(),
        other => word(other).unwrap_or_else(|| "any".into()),
    }
}

/// JSON as an expression: a text with `${` is a template.
fn of_json(value: Value) -> Expression {
    match value {
        Value::Null => Expression::Null,
        Value::Bool(value) => Expression::Bool(value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Expression::from(whole),
            None => Expression::from(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => match text.contains("${") || text.contains("%{") {
            true => Expression::TemplateExpr(Box::new(TemplateExpr::QuotedString(text))),
            false => Expression::String(text),
        },
        Value::Array(items) => Expression::Array(items.into_iter().map(of_json).collect()),
        Value::Object(map) => Expression::Object(
            map.into_iter()
                .map(|(key, value)| {
                    (ObjectKey::Expression(Expression::String(key)), of_json(value))
                })
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(text: &str, name: &str, environment: &[(&str, &str)]) -> Result<Value, String> {
        let mut definition =
            Definition { environment: Environment::of(environment), ..Definition::default() };
        definition.add_hcl(text)?;
        let expression: Expression = name.parse().map_err(|error| format!("{error}"))?;
        definition.evaluate(&expression, &[])
    }

    #[test]
    fn variables_come_from_several_places() {
        let text = "
            variable \"TAG\" { default = \"latest\" }
            variable \"COUNT\" { default = 1 }
            variable \"ON\" { default = false }
            variable \"LIST\" { default = [\"a\"] }
            variable \"NAME\" { default = \"r/${TAG}-${double(COUNT)}\" }
            fixed = \"f\"
            function \"double\" {
              params = [n]
              result = n * 2
            }";
        for (name, environment, expected) in [
            ("NAME", &[][..], json!("r/latest-2")),
            ("NAME", &[("TAG", "v1"), ("COUNT", "4")], json!("r/v1-8")),
            ("ON", &[("ON", "1")], json!(true)),
            ("LIST", &[("LIST", "x,y")], json!(["x", "y"])),
            ("LIST", &[("LIST_JSON", "[\"z\"]")], json!(["z"])),
            ("fixed", &[("fixed", "other")], json!("f")),
            (
                "TAG",
                &[("TAG", "v1"), ("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP", "1")],
                json!("latest"),
            ),
        ] {
            assert_eq!(value(text, name, environment), Ok(expected), "{name} {environment:?}");
        }
        assert!(value(text, "COUNT", &[("COUNT", "x")]).unwrap_err().contains("is no number"));
        let own = "variable \"A\" { default = B }\nvariable \"B\" { default = A }";
        assert!(value(own, "A", &[]).unwrap_err().contains("stands on itself"));
        let checked = "variable \"A\" {\n default = \"\"\n validation {\n condition = A != \"\"\n error_message = \"A is needed\"\n }\n}";
        assert_eq!(value(checked, "A", &[]).unwrap_err(), "variable `A`: A is needed");
        assert_eq!(value(checked, "A", &[("A", "x")]), Ok(json!("x")));
        let forever = "function \"f\" {\n params = [x]\n result = f(x)\n}";
        assert!(value(forever, "f(1)", &[]).unwrap_err().contains("calls itself"));
        assert!(value("network \"x\" {}", "1", &[]).unwrap_err().contains("no blocks `network`"));
    }
}
