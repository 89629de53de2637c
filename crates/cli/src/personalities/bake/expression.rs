//! HCL expressions, evaluated: variables come when they are asked for, and nothing is believed to
//! end by itself.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use hcl::Identifier;
use hcl::expr::{
    BinaryOperator, Conditional, Expression, ForExpr, FuncCall, ObjectKey, Operation, TemplateExpr,
    Traversal, TraversalOperator, UnaryOperator,
};
use hcl::template::{Directive, Element, Strip, Template};
use serde_json::{Map, Number, Value};

use super::functions;

/// Nested or called deeper, an expression is a mistake.
const DEEPEST: usize = 100;
/// More steps than any definition needs.
const MOST_STEPS: usize = 1_000_000;

/// A function of a definition.
#[derive(Clone, Debug)]
pub struct Function {
    /// Names of its parameters.
    pub parameters: Vec<String>,
    /// The name of the list of all further arguments.
    pub variadic: Option<String>,
    /// What it gives.
    pub result: Expression,
}

/// What names stand for.
pub trait Names {
    /// The value of a variable; none if there is no such variable.
    ///
    /// # Errors
    /// A sentence, if its own expression is wrong.
    fn variable(&self, scope: &Scope<'_>, name: &str) -> Result<Option<Value>, String>;

    /// A function of the definition.
    fn function(&self, name: &str) -> Option<&Function>;

    /// What another block says: `target.app.tags`.
    ///
    /// # Errors
    /// A sentence, if there is no such block or attribute, or its expression is wrong.
    fn attribute(&self, kind: &str, block: &str, name: &str) -> Result<Value, String>;

    /// The caller's home.
    fn home(&self) -> Option<String>;
}

/// Where an expression is evaluated.
pub struct Scope<'n> {
    names: &'n dyn Names,
    locals: RefCell<Vec<(String, Value)>>,
    depth: Cell<usize>,
    steps: Cell<usize>,
}

impl<'n> Scope<'n> {
    /// A scope with some values of its own, as those of a matrix.
    pub fn new(names: &'n dyn Names, locals: Vec<(String, Value)>) -> Self {
        Self { names, locals: RefCell::new(locals), depth: Cell::new(0), steps: Cell::new(0) }
    }

    /// The value of an expression.
    ///
    /// # Errors
    /// A sentence that names what is wrong.
    pub fn evaluate(&self, expression: &Expression) -> Result<Value, String> {
        self.depth.set(self.depth.get() + 1);
        self.steps.set(self.steps.get() + 1);
        let result = match (self.depth.get() > DEEPEST, self.steps.get() > MOST_STEPS) {
            (true, _) => Err("it is nested too deep, or calls itself".into()),
            (_, true) => Err("it takes too many steps".into()),
            _ => self.value(expression),
        };
        self.depth.set(self.depth.get() - 1);
        result
    }

    fn value(&self, expression: &Expression) -> Result<Value, String> {
        match expression {
            Expression::Null => Ok(Value::Null),
            Expression::Bool(value) => Ok(Value::Bool(*value)),
            Expression::Number(number) => Ok(of_number(number)),
            Expression::String(text) => Ok(Value::String(text.clone())),
            Expression::Array(items) => items
                .iter()
                .map(|item| self.evaluate(item))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            Expression::Object(pairs) => {
                let mut map = Map::new();
                for (key, item) in pairs {
                    let key = match key {
                        ObjectKey::Identifier(name) => name.to_string(),
                        ObjectKey::Expression(key) => text(&self.evaluate(key)?)?,
                        _ => return Err("a key is of a kind that is not known".into()),
                    };
                    map.insert(key, self.evaluate(item)?);
                }
                Ok(Value::Object(map))
            }
            Expression::TemplateExpr(template) => self.template(template),
            Expression::Variable(name) => self.variable(name.as_str()),
            Expression::Traversal(traversal) => self.traversal(traversal),
            Expression::FuncCall(call) => self.call(call),
            Expression::Parenthesis(inner) => self.evaluate(inner),
            Expression::Conditional(conditional) => self.conditional(conditional),
            Expression::Operation(operation) => self.operation(operation),
            Expression::ForExpr(each) => self.each(each),
            _ => Err("it is of a kind that is not known".into()),
        }
    }

    fn variable(&self, name: &str) -> Result<Value, String> {
        let local = self.locals.borrow().iter().rev().find(|(own, _)| own == name).cloned();
        if let Some((_, value)) = local {
            return Ok(value);
        }
        match self.names.variable(self, name)? {
            Some(value) => Ok(value),
            None => Err(format!("there is no variable `{name}`")),
        }
    }

    fn conditional(&self, conditional: &Conditional) -> Result<Value, String> {
        match boolean(&self.evaluate(&conditional.cond_expr)?)? {
            true => self.evaluate(&conditional.true_expr),
            false => self.evaluate(&conditional.false_expr),
        }
    }

    fn operation(&self, operation: &Operation) -> Result<Value, String> {
        let binary = match operation {
            Operation::Unary(unary) => {
                let value = self.evaluate(&unary.expr)?;
                return match unary.operator {
                    UnaryOperator::Neg => Ok(from_f64(-number(&value)?)),
                    UnaryOperator::Not => Ok(Value::Bool(!boolean(&value)?)),
                };
            }
            Operation::Binary(binary) => binary,
        };
        let left = self.evaluate(&binary.lhs_expr)?;
        // Both sides are evaluated, as HCL has it.
        let right = self.evaluate(&binary.rhs_expr)?;
        let numbers = || Ok::<_, String>((number(&left)?, number(&right)?));
        Ok(match binary.operator {
            BinaryOperator::Eq => Value::Bool(is_equal(&left, &right)),
            BinaryOperator::NotEq => Value::Bool(!is_equal(&left, &right)),
            BinaryOperator::And => Value::Bool(boolean(&left)? && boolean(&right)?),
            BinaryOperator::Or => Value::Bool(boolean(&left)? || boolean(&right)?),
            BinaryOperator::Less => numbers().map(|(a, b)| Value::Bool(a < b))?,
            BinaryOperator::LessEq => numbers().map(|(a, b)| Value::Bool(a <= b))?,
            BinaryOperator::Greater => numbers().map(|(a, b)| Value::Bool(a > b))?,
            BinaryOperator::GreaterEq => numbers().map(|(a, b)| Value::Bool(a >= b))?,
            BinaryOperator::Plus => numbers().map(|(a, b)| from_f64(a + b))?,
            BinaryOperator::Minus => numbers().map(|(a, b)| from_f64(a - b))?,
            BinaryOperator::Mul => numbers().map(|(a, b)| from_f64(a * b))?,
            BinaryOperator::Div | BinaryOperator::Mod if number(&right)? == 0.0 => {
                return Err("it divides by zero".into());
            }
            BinaryOperator::Div => numbers().map(|(a, b)| from_f64(a / b))?,
            BinaryOperator::Mod => numbers().map(|(a, b)| from_f64(a % b))?,
        })
    }

    fn traversal(&self, traversal: &Traversal) -> Result<Value, String> {
        if let Expression::Variable(root) = &traversal.expr
            && matches!(root.as_str(), "target" | "group")
            && !self.locals.borrow().iter().any(|(own, _)| own == root.as_str())
            && let [TraversalOperator::GetAttr(block), TraversalOperator::GetAttr(name), rest @ ..] =
                traversal.operators.as_slice()
        {
            let start = self.names.attribute(root, block, name)?;
            return self.follow(start, rest);
        }
        let start = self.evaluate(&traversal.expr)?;
        self.follow(start, &traversal.operators)
    }

    fn follow(&self, mut value: Value, operators: &[TraversalOperator]) -> Result<Value, String> {
        let mut operators = operators.iter();
        while let Some(operator) = operators.next() {
            let key = match operator {
                TraversalOperator::GetAttr(name) => Value::String(name.to_string()),
                TraversalOperator::Index(index) => self.evaluate(index)?,
                TraversalOperator::LegacyIndex(index) => (*index).into(),
                TraversalOperator::AttrSplat | TraversalOperator::FullSplat => {
                    let items = match value {
                        Value::Array(items) => items,
                        Value::Null => Vec::new(),
                        other => vec![other],
                    };
                    let rest = operators.as_slice();
                    let items = items.into_iter().map(|item| self.follow(item, rest));
                    return items.collect::<Result<_, _>>().map(Value::Array);
                }
            };
            value = functions::item(&value, &key)?;
        }
        Ok(value)
    }

    fn each(&self, each: &ForExpr) -> Result<Value, String> {
        let pairs: Vec<(Value, Value)> = match self.evaluate(&each.collection_expr)? {
            Value::Array(items) => {
                items.into_iter().enumerate().map(|(at, item)| (at.into(), item)).collect()
            }
            Value::Object(map) => map.into_iter().map(|(key, item)| (key.into(), item)).collect(),
            other => return Err(format!("`for` needs a list or a map, and not {other}")),
        };
        let (mut list, mut map) = (Vec::new(), Map::new());
        for (key, item) in pairs {
            let locals = locals(each.key_var.as_ref(), &each.value_var, key, item);
            let made = self.within(locals, || {
                if let Some(condition) = &each.cond_expr
                    && !boolean(&self.evaluate(condition)?)?
                {
                    return Ok(None);
                }
                let key = each.key_expr.as_ref().map(|key| self.evaluate(key)).transpose()?;
                Ok(Some((key, self.evaluate(&each.value_expr)?)))
            })?;
            match made {
                None => {}
                Some((None, value)) => list.push(value),
                Some((Some(key), value)) if each.grouping => {
                    let group = map.entry(text(&key)?).or_insert_with(|| Value::Array(Vec::new()));
                    if let Value::Array(group) = group {
                        group.push(value);
                    }
                }
                Some((Some(key), value)) => drop(map.insert(text(&key)?, value)),
            }
        }
        Ok(if each.key_expr.is_some() { Value::Object(map) } else { Value::Array(list) })
    }

    /// Evaluates with further names.
    fn within<T>(
        &self,
        locals: Vec<(String, Value)>,
        work: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, String> {
        let before = self.locals.borrow().len();
        self.locals.borrow_mut().extend(locals);
        let result = work();
        self.locals.borrow_mut().truncate(before);
        result
    }

    fn call(&self, call: &FuncCall) -> Result<Value, String> {
        let name = call.name.name.as_str();
        // These two look at what cannot be evaluated.
        match name {
            "try" => {
                let found = call.args.iter().find_map(|argument| self.evaluate(argument).ok());
                return found.ok_or_else(|| "`try`: no argument can be evaluated".into());
            }
            "can" => {
                return Ok(Value::Bool(
                    call.args.iter().all(|argument| self.evaluate(argument).is_ok()),
                ));
            }
            "homedir" => {
                let home = self.names.home();
                return home.map(Value::String).ok_or_else(|| "`homedir`: HOME is not set".into());
            }
            _ => {}
        }
        let mut arguments: Vec<Value> =
            call.args.iter().map(|argument| self.evaluate(argument)).collect::<Result<_, _>>()?;
        if call.expand_final
            && let Some(Value::Array(last)) = arguments.pop()
        {
            arguments.extend(last);
        }
        match self.names.function(name) {
            Some(function) => self.apply(name, function, arguments),
            None => functions::call(name, &arguments).map_err(|error| format!("`{name}`: {error}")),
        }
    }

    /// Calls a function of the definition: it sees its parameters and the variables.
    fn apply(
        &self,
        name: &str,
        function: &Function,
        mut arguments: Vec<Value>,
    ) -> Result<Value, String> {
        let wanted = function.parameters.len();
        let fits = match function.variadic {
            Some(_) => arguments.len() >= wanted,
            None => arguments.len() == wanted,
        };
        if !fits {
            return Err(format!("`{name}` takes {wanted} arguments, and not {}", arguments.len()));
        }
        let further = arguments.split_off(wanted);
        let mut locals: Vec<(String, Value)> =
            function.parameters.iter().cloned().zip(arguments).collect();
        if let Some(variadic) = &function.variadic {
            locals.push((variadic.clone(), Value::Array(further)));
        }
        let outer = self.locals.replace(locals);
        let result = self.evaluate(&function.result);
        self.locals.replace(outer);
        result
    }

    fn template(&self, template: &TemplateExpr) -> Result<Value, String> {
        let template = Template::from_expr(template).map_err(|error| error.to_string())?;
        // `"${x}"` alone is x itself, of whatever kind.
        if let [Element::Interpolation(only)] = template.elements() {
            return self.evaluate(&only.expr);
        }
        let mut out = String::new();
        self.elements(&template, &mut out)?;
        Ok(Value::String(out))
    }

    fn elements(&self, template: &Template, out: &mut String) -> Result<(), String> {
        let mut trims = false;
        for element in template.elements() {
            match element {
                Element::Literal(literal) => {
                    out.push_str(if trims { literal.trim_start() } else { literal });
                    trims = false;
                }
                Element::Interpolation(interpolation) => {
                    trim_before(interpolation.strip, out);
                    out.push_str(&text(&self.evaluate(&interpolation.expr)?)?);
                    trims = trims_after(interpolation.strip);
                }
                Element::Directive(directive) => trims = self.directive(directive, out)?,
            }
        }
        Ok(())
    }

    /// `%{ if … }`, `%{ for … }`; whether blanks behind it go.
    fn directive(&self, directive: &Directive, out: &mut String) -> Result<bool, String> {
        match directive {
            Directive::If(directive) => {
                trim_before(directive.if_strip, out);
                let chosen = match boolean(&self.evaluate(&directive.cond_expr)?)? {
                    true => Some(&directive.true_template),
                    false => directive.false_template.as_ref(),
                };
                if let Some(template) = chosen {
                    self.elements(template, out)?;
                }
                Ok(trims_after(directive.endif_strip))
            }
            Directive::For(directive) => {
                trim_before(directive.for_strip, out);
                let pairs: Vec<(Value, Value)> = match self.evaluate(&directive.collection_expr)? {
                    Value::Array(items) => {
                        items.into_iter().enumerate().map(|(at, item)| (at.into(), item)).collect()
                    }
                    Value::Object(map) => {
                        map.into_iter().map(|(key, item)| (key.into(), item)).collect()
                    }
                    other => return Err(format!("`for` needs a list or a map, and not {other}")),
                };
                for (key, item) in pairs {
                    let locals =
                        locals(directive.key_var.as_ref(), &directive.value_var, key, item);
                    self.within(locals, || self.elements(&directive.template, out))?;
                }
                Ok(trims_after(directive.endfor_strip))
            }
        }
    }
}

fn locals(
    key_name: Option<&Identifier>,
    value_name: &Identifier,
    key: Value,
    value: Value,
) -> Vec<(String, Value)> {
    let key = key_name.map(|name| (name.to_string(), key));
    key.into_iter().chain([(value_name.to_string(), value)]).collect()
}

fn trim_before(strip: Strip, out: &mut String) {
    if matches!(strip, Strip::Start | Strip::Both) {
        out.truncate(out.trim_end().len());
    }
}

fn trims_after(strip: Strip) -> bool {
    matches!(strip, Strip::End | Strip::Both)
}

/// A number of HCL.
fn of_number(number: &hcl::Number) -> Value {
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => whole.into(),
        (None, Some(float)) => from_f64(float),
        _ => Value::Null,
    }
}

/// A number as HCL has it: whole where it can be.
pub fn from_f64(number: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and below 2^53")]
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// A value as a text.
///
/// # Errors
/// A sentence if it is a list or a map.
pub fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Null => Err("a value is null, where a text is needed".into()),
        other => Err(format!("`{other}` is no text")),
    }
}

/// A value as a number.
///
/// # Errors
/// A sentence if it is none.
pub fn number(value: &Value) -> Result<f64, String> {
    match value {
        Value::Number(number) => number.as_f64().ok_or_else(|| format!("`{number}` is too large")),
        Value::String(text) => text.trim().parse().map_err(|_| format!("`{text}` is no number")),
        other => Err(format!("`{other}` is no number")),
    }
}

/// A value as a truth value.
///
/// # Errors
/// A sentence if it is none.
pub fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::String(text) => match text.as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(format!("`{text}` is neither true nor false")),
        },
        other => Err(format!("`{other}` is neither true nor false")),
    }
}

/// Whether values are equal; numbers by their value.
pub fn is_equal(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

/// No names at all.
#[cfg(test)]
pub struct Nothing;

#[cfg(test)]
impl Names for Nothing {
    fn variable(&self, _: &Scope<'_>, _: &str) -> Result<Option<Value>, String> {
        Ok(None)
    }

    fn function(&self, _: &str) -> Option<&Function> {
        None
    }

    fn attribute(&self, _: &str, _: &str, name: &str) -> Result<Value, String> {
        Err(format!("there is no `{name}`"))
    }

    fn home(&self) -> Option<String> {
        None
    }
}

/// Maps of names and functions.
pub type Functions = BTreeMap<String, Function>;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(expression: &str) -> Result<Value, String> {
        let expression: Expression = expression.parse().map_err(|error| format!("{error}"))?;
        let locals = vec![("x".into(), json!("ex")), ("list".into(), json!(["a", "b"]))];
        Scope::new(&Nothing, locals).evaluate(&expression)
    }

    #[test]
    fn expressions() {
        for (expression, expected) in [
            ("1 + 2 * 3", json!(7)),
            ("7 / 2", json!(3.5)),
            ("x == \"ex\" && !false ? \"y\" : \"n\"", json!("y")),
            ("\"a-${x}-${1 + 1}\"", json!("a-ex-2")),
            ("\"${list}\"", json!(["a", "b"])),
            ("list[1]", json!("b")),
            ("{a = 1, \"b\" = list}.b[0]", json!("a")),
            ("[for i, v in list : \"${i}${v}\" if v != \"a\"]", json!(["1b"])),
            ("{for v in list : v => upper(v)}", json!({"a": "A", "b": "B"})),
            ("\"%{ for v in list }<${v}>%{ endfor }\"", json!("<a><b>")),
            ("\"%{ if x == \"ex\" }yes%{ else }no%{ endif }\"", json!("yes")),
            ("[{n = 1}, {n = 2}][*].n", json!([1, 2])),
            ("try(nope, \"else\")", json!("else")),
            ("can(list[9])", json!(false)),
            ("join(\"-\", [\"a\", \"b\"])", json!("a-b")),
            ("max([1, 3, 2]...)", json!(3)),
        ] {
            assert_eq!(value(expression), Ok(expected), "{expression}");
        }
        for (expression, word) in [
            ("nope", "no variable `nope`"),
            ("1 / 0", "by zero"),
            ("frob(1)", "`frob`: "),
            ("\"a${list}\"", "is no text"),
            ("list[7]", "7"),
        ] {
            let error = value(expression).unwrap_err();
            assert!(error.contains(word), "{expression}: {error}");
        }
    }
}
