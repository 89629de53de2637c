//! Parts of operations on files.

use graph::{
    Action, ActionInput, ActionKind, ChmodMode, CopyAction, FilesOp, Owner, OwnerName, StepId,
};

use crate::error::Error;

/// An operation while its actions are collected.
pub(super) struct FilesBuilder {
    base: ActionInput,
    inputs: Vec<StepId>,
    actions: Vec<Action>,
}

impl FilesBuilder {
    pub(super) fn new(base: Option<StepId>) -> Self {
        Self {
            base: if base.is_some() { ActionInput::Input(0) } else { ActionInput::Scratch },
            inputs: base.into_iter().collect(),
            actions: Vec::new(),
        }
    }

    /// The tree that all actions change, as owners' names are looked up in it.
    pub(super) fn base(&self) -> ActionInput {
        self.base
    }

    /// The place of an input; inputs that are the same share one.
    pub(super) fn input(&mut self, step: Option<StepId>) -> ActionInput {
        let Some(step) = step else { return ActionInput::Scratch };
        match self.inputs.iter().position(|known| *known == step) {
            Some(index) => ActionInput::Input(index),
            None => {
                self.inputs.push(step);
                ActionInput::Input(self.inputs.len() - 1)
            }
        }
    }

    pub(super) fn copy(&mut self, copy: CopyAction) {
        let base = match self.actions.len() {
            0 => self.base,
            count => ActionInput::Action(count - 1),
        };
        self.actions.push(Action { base, kind: ActionKind::Copy(Box::new(copy)) });
    }

    pub(super) fn finish(self) -> (FilesOp, Vec<StepId>) {
        (FilesOp { actions: self.actions }, self.inputs)
    }
}

/// `user[:group]`; names are looked up in `input`.
pub(super) fn owner(text: &str, input: ActionInput) -> Owner {
    let name = |text: &str| match text {
        // BuildKit takes an empty name for 0.
        "root" | "" => OwnerName::Id(0),
        text => match text.parse::<i32>() {
            Ok(id) => OwnerName::Id(id as u32),
            Err(_) => OwnerName::Name { name: text.into(), input },
        },
    };
    match text.split_once(':') {
        Some((user, group)) => Owner { user: Some(name(user)), group: Some(name(group)) },
        None => Owner { user: Some(name(text)), group: None },
    }
}

/// The value of `--chmod`.
pub(super) fn chmod(text: &str) -> Result<ChmodMode, Error> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if let (true, Ok(mode)) = (digits, u32::from_str_radix(text, 8))
        && mode <= 0o7777
    {
        return Ok(ChmodMode::Octal(mode));
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Error::new(format!(
            "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        ))
        .hint("as 0755 or u=rwX,go=rX"));
    }
    match text.split(',').all(is_clause) {
        true => Ok(ChmodMode::Symbolic(text.into())),
        false => Err(Error::new(format!("invalid chmod parameter: '{text}': invalid syntax"))
            .hint("as 0755 or u=rwX,go=rX")),
    }
}

/// `[augo]*([+-=][rwxXstugo]*)+`
fn is_clause(text: &str) -> bool {
    let actions = text.trim_start_matches(['a', 'u', 'g', 'o']);
    actions.starts_with(['+', '-', '=']) && actions.chars().all(|c| "+-=rwxXstugo".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_numbers_or_clauses() {
        assert_eq!(chmod("0755").unwrap(), ChmodMode::Octal(0o755));
        for text in ["u=rwX,go=rX", "+x", "a-w+r", "g=u", "o="] {
            assert_eq!(chmod(text).unwrap(), ChmodMode::Symbolic(text.into()));
        }
        for text in ["999", "10000", "7a", "u=q", "u", "u=r,", "rw"] {
            assert!(chmod(text).is_err(), "{text}");
        }
    }

    #[test]
    fn owners_are_numbers_or_names() {
        let name =
            |name: &str| Some(OwnerName::Name { name: name.into(), input: ActionInput::Input(0) });
        let read = |text| {
            let owner = owner(text, ActionInput::Input(0));
            (owner.user, owner.group)
        };
        assert_eq!(read("1000"), (Some(OwnerName::Id(1000)), None));
        assert_eq!(read("root:staff"), (Some(OwnerName::Id(0)), name("staff")));
        assert_eq!(read(":5"), (Some(OwnerName::Id(0)), Some(OwnerName::Id(5))));
    }
}
