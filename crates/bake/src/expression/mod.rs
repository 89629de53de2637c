//! The evaluation of HCL expressions. Variables are evaluated when they are used; a [`Budget`] makes
//! every evaluation end.

mod template;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;

use hcl::Identifier;
use hcl::expr::{
    BinaryOperator, Conditional, Expression, ForExpr, FuncCall, ObjectKey, Operation, Traversal,
    TraversalOperator, UnaryOperator,
};
use serde_json::{Map, Value};

use crate::budget::Budget;
use crate::error::{Location, Within as _, invalid};
use crate::value::{boolean, from_f64, is_equal, number, of_number, text};
use crate::{BakeError, functions};

/// A function of a definition.
#[derive(Clone, Debug)]
pub struct Function {
    /// Names of its parameters.
    pub parameters: Vec<String>,
    /// The name of the list of all further arguments.
    pub variadic: Option<String>,
    /// The expression that it evaluates.
    pub result: Expression,
}

/// The functions of a definition, by name.
pub type Functions = BTreeMap<String, Function>;

/// The variables, functions and blocks that an expression can name.
pub trait Names {
    /// The value of a variable; `None` if it is not defined.
    ///
    /// # Errors
    /// If its own expression cannot be evaluated.
    fn variable(&self, name: &str) -> Result<Option<Value>, BakeError>;

    /// A function of the definition.
    fn function(&self, name: &str) -> Option<&Function>;

    /// The value of another block's attribute: `target.app.tags`.
    ///
    /// # Errors
    /// If the block or attribute is not defined, or cannot be evaluated.
    fn attribute(&self, kind: &str, block: &str, name: &str) -> Result<Value, BakeError>;

    /// The caller's home.
    fn home(&self) -> Option<String>;

    /// The work that evaluation may do.
    fn budget(&self) -> &Budget;
}

/// The names that an expression sees.
pub struct Scope<'n> {
    names: &'n dyn Names,
    locals: RefCell<Vec<(String, Value)>>,
}

impl<'n> Scope<'n> {
    /// A scope with some values of its own, as those of a matrix.
    pub fn new(names: &'n dyn Names, locals: Vec<(String, Value)>) -> Self {
        Self { names, locals: RefCell::new(locals) }
    }

    /// The value of an expression.
    ///
    /// # Errors
    /// If a name is not defined, a value has the wrong type, or the budget is used up.
    pub fn evaluate(&self, expression: &Expression) -> Result<Value, BakeError> {
        self.names.budget().step(|| self.value(expression))
    }

    fn value(&self, expression: &Expression) -> Result<Value, BakeError> {
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
                        _ => return Err(invalid!("a key has an unknown form")),
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
            _ => Err(invalid!("an expression has an unknown form")),
        }
    }

    fn variable(&self, name: &str) -> Result<Value, BakeError> {
        self.names.budget().charge(self.locals.borrow().len() / 16)?;
        let local = self.locals.borrow().iter().rev().find(|(own, _)| own == name).cloned();
        if let Some((_, value)) = local {
            return Ok(value);
        }
        let value = self.names.variable(name)?;
        value.ok_or_else(|| BakeError::Unknown { kind: "variable", name: name.to_owned() })
    }

    fn conditional(&self, conditional: &Conditional) -> Result<Value, BakeError> {
        if boolean(&self.evaluate(&conditional.cond_expr)?)? {
            self.evaluate(&conditional.true_expr)
        } else {
            self.evaluate(&conditional.false_expr)
        }
    }

    fn operation(&self, operation: &Operation) -> Result<Value, BakeError> {
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
        // HCL evaluates both sides of `&&` and `||`.
        let right = self.evaluate(&binary.rhs_expr)?;
        let numbers = || Ok::<_, BakeError>((number(&left)?, number(&right)?));
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
                return Err(BakeError::DivisionByZero);
            }
            BinaryOperator::Div => numbers().map(|(a, b)| from_f64(a / b))?,
            BinaryOperator::Mod => numbers().map(|(a, b)| from_f64(a % b))?,
        })
    }

    fn traversal(&self, traversal: &Traversal) -> Result<Value, BakeError> {
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

    fn follow(
        &self,
        mut value: Value,
        operators: &[TraversalOperator],
    ) -> Result<Value, BakeError> {
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
                    let (rest, budget) = (operators.as_slice(), self.names.budget());
                    let items =
                        items.into_iter().map(|item| budget.step(|| self.follow(item, rest)));
                    return items.collect::<Result<_, _>>().map(Value::Array);
                }
            };
            value = functions::item(&value, &key)?;
        }
        Ok(value)
    }

    fn each(&self, each: &ForExpr) -> Result<Value, BakeError> {
        let pairs = entries(self.evaluate(&each.collection_expr)?)?;
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
                Some((Some(key), value)) => {
                    map.insert(text(&key)?, value);
                }
            }
        }
        Ok(if each.key_expr.is_some() { Value::Object(map) } else { Value::Array(list) })
    }

    /// Evaluates with further names.
    fn within<T>(
        &self,
        locals: Vec<(String, Value)>,
        work: impl FnOnce() -> Result<T, BakeError>,
    ) -> Result<T, BakeError> {
        let before = self.locals.borrow().len();
        self.locals.borrow_mut().extend(locals);
        let result = work();
        self.locals.borrow_mut().truncate(before);
        result
    }

    fn call(&self, call: &FuncCall) -> Result<Value, BakeError> {
        let name = call.name.name.as_str();
        if let Some(result) = self.call_special(name, call) {
            return result;
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
            None => functions::call(name, &arguments).within(|| Location::Key(name.to_owned())),
        }
    }

    /// Calls a function that takes expressions, or asks for the caller; `None` for all others.
    fn call_special(&self, name: &str, call: &FuncCall) -> Option<Result<Value, BakeError>> {
        Some(match name {
            "try" => {
                let found = call.args.iter().find_map(|argument| self.evaluate(argument).ok());
                found.ok_or_else(|| invalid!("`try`: no argument can be evaluated"))
            }
            "can" => {
                Ok(Value::Bool(call.args.iter().all(|argument| self.evaluate(argument).is_ok())))
            }
            "homedir" => {
                let home = self.names.home();
                home.map(Value::String).ok_or_else(|| invalid!("`homedir`: HOME is not set"))
            }
            _ => return None,
        })
    }

    /// Calls a function of the definition: it sees its parameters and the variables.
    fn apply(
        &self,
        name: &str,
        function: &Function,
        mut arguments: Vec<Value>,
    ) -> Result<Value, BakeError> {
        let wanted = function.parameters.len();
        let given = arguments.len();
        if given < wanted || (given > wanted && function.variadic.is_none()) {
            return Err(invalid!("`{name}` takes {wanted} arguments, and not {given}"));
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
}

/// The pairs that `for` visits: indices and items, or keys and values.
fn entries(collection: Value) -> Result<Vec<(Value, Value)>, BakeError> {
    match collection {
        Value::Array(items) => {
            Ok(items.into_iter().enumerate().map(|(at, item)| (at.into(), item)).collect())
        }
        Value::Object(map) => Ok(map.into_iter().map(|(key, item)| (key.into(), item)).collect()),
        other => Err(invalid!("`for` needs a list or a map, and not {other}")),
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
