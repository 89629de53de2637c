//! Bake files in HCL.

use ::hcl::{Block, Body, Structure};

use super::{Attributes, Definition, RawBlock};
use crate::BakeError;
use crate::error::invalid;

impl Definition {
    /// Adds what an HCL file defines.
    ///
    /// # Errors
    /// If the text is not HCL, or a block is unknown or incomplete.
    pub fn add_hcl(&mut self, text: &str) -> Result<(), BakeError> {
        // The parser has a limit on nesting, as that of JSON has.
        let body: Body = ::hcl::parse(text)?;
        for structure in body {
            match structure {
                Structure::Attribute(attribute) => {
                    self.add_constant(attribute.key().to_owned(), attribute.expr().clone());
                }
                Structure::Block(block) => self.add(raw(&block)?)?,
            }
        }
        Ok(())
    }
}

fn raw(block: &Block) -> Result<RawBlock, BakeError> {
    let kind = block.identifier().to_owned();
    let [label] = block.labels() else {
        return Err(invalid!("a `{kind}` has one name, as `{kind} \"app\"`"));
    };
    let inner = block.body().blocks();
    let inner = inner.map(|block| (block.identifier().to_owned(), attributes(block.body())));
    Ok(RawBlock {
        name: label.as_str().to_owned(),
        attributes: attributes(block.body()),
        inner: inner.collect(),
        kind,
    })
}

fn attributes(body: &Body) -> Attributes {
    let attributes = body.attributes();
    attributes.map(|attribute| (attribute.key().to_owned(), attribute.expr().clone())).collect()
}
