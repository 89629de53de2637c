//! `kiln rmi`.

use oci::{Digest, Reference};

/// What went.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// Images whose last name went.
    pub deleted: Vec<Digest>,
}

/// The lines that docker prints.
pub fn text(removed: &Removed) -> String {
    let untagged = removed.untagged.iter().map(|name| format!("Untagged: {}\n", name.familiar()));
    let deleted = removed.deleted.iter().map(|digest| format!("Deleted: {digest}\n"));
    untagged.chain(deleted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let removed =
            Removed { untagged: vec!["a:1".parse().unwrap()], deleted: vec![Digest::of("")] };
        assert!(text(&removed).starts_with("Untagged: a:1\nDeleted: sha256:e3b0"));
    }
}
