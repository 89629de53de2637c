//! Templates in quoted texts and heredocs: `${…}`, `%{ if … }`, `%{ for … }`.

use hcl::expr::TemplateExpr;
use hcl::template::{Directive, Element, Strip, Template};
use serde_json::Value;

use super::{Scope, entries, locals};
use crate::BakeError;
use crate::value::{boolean, text};

/// The largest text that a template makes, in bytes.
const MAX_TEXT: usize = 4 << 20;

impl Scope<'_> {
    pub(super) fn template(&self, template: &TemplateExpr) -> Result<Value, BakeError> {
        let template = Template::from_expr(template)?;
        // `"${x}"` alone is x itself, with its type.
        if let [Element::Interpolation(only)] = template.elements() {
            return self.evaluate(&only.expr);
        }
        let mut out = String::new();
        self.elements(&template, &mut out)?;
        Ok(Value::String(out))
    }

    fn elements(&self, template: &Template, out: &mut String) -> Result<(), BakeError> {
        self.names.budget().charge(1)?;
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
            if out.len() > MAX_TEXT {
                return Err(BakeError::Limit("the text would be too long"));
            }
        }
        Ok(())
    }

    /// Evaluates `%{ if … }` and `%{ for … }`. Returns true if blanks behind it are trimmed.
    fn directive(&self, directive: &Directive, out: &mut String) -> Result<bool, BakeError> {
        match directive {
            Directive::If(directive) => {
                trim_before(directive.if_strip, out);
                let chosen = if boolean(&self.evaluate(&directive.cond_expr)?)? {
                    Some(&directive.true_template)
                } else {
                    directive.false_template.as_ref()
                };
                if let Some(template) = chosen {
                    self.elements(template, out)?;
                }
                Ok(trims_after(directive.endif_strip))
            }
            Directive::For(directive) => {
                trim_before(directive.for_strip, out);
                let pairs = entries(self.evaluate(&directive.collection_expr)?)?;
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

fn trim_before(strip: Strip, out: &mut String) {
    if matches!(strip, Strip::Start | Strip::Both) {
        out.truncate(out.trim_end().len());
    }
}

fn trims_after(strip: Strip) -> bool {
    matches!(strip, Strip::End | Strip::Both)
}
