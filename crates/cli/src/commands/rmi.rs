//! `kiln rmi`.

use build::images::{ImageError, Removed, remove};
use store::Store;

use super::reports;
use crate::args::RmiArgs;
use crate::render::Report;
use crate::terminal;

/// Removes images; one that cannot be removed does not stop the others.
///
/// # Errors
/// If an image is not here (unless forced), or has several names.
pub fn run(args: &RmiArgs, store: &Store) -> Result<(), Report> {
    let mut failed = Vec::new();
    for image in &args.images {
        match remove(store, image, args.force) {
            Ok(removed) => terminal::print(&text(&removed))?,
            Err(error @ ImageError::NotHere(_)) if args.force => {
                terminal::say(&format!("{error}\n"));
            }
            Err(error) => failed.push(error),
        }
    }
    reports(&failed)
}

/// The lines that docker prints.
pub fn text(removed: &Removed) -> String {
    let untagged = removed.untagged.iter().map(|name| format!("Untagged: {}\n", name.familiar()));
    let deleted = removed.deleted.iter().map(|digest| format!("Deleted: {digest}\n"));
    untagged.chain(deleted).collect()
}

#[cfg(test)]
mod tests {
    use oci::Digest;

    use super::*;

    #[test]
    fn lines() {
        let removed =
            Removed { untagged: vec!["a:1".parse().unwrap()], deleted: vec![Digest::of("")] };
        assert!(text(&removed).starts_with("Untagged: a:1\nDeleted: sha256:e3b0"));
    }
}
