//! Owners of files.

use std::io::{self, Read as _};

use graph::{ActionInput, Owner, OwnerName};
use tree::{LayerFiles, Node, NodeKind};

use super::ActionScope;
use super::error::FilesError;
use super::mutable_tree::Ids;

/// BuildKit's limit for files of names.
const MAX_NAME_FILE: u64 = 10 << 20;

/// The numbers of an owner. A name that is not known is 0, without a word.
pub(super) fn resolve(
    scope: &mut ActionScope<'_>,
    owner: Option<&Owner>,
) -> Result<Option<Ids>, FilesError> {
    let Some(Owner { user, group }) = owner else { return Ok(None) };
    let mut ids = (0, 0);
    match user {
        None => {}
        Some(OwnerName::Id(id)) => ids = (*id, *id),
        Some(OwnerName::Name { name, input }) => {
            if let Some(line) = find(scope, *input, "/etc/passwd", name)? {
                ids = (number(&line, 2), number(&line, 3));
            }
        }
    }
    match group {
        None => {}
        Some(OwnerName::Id(id)) => ids.1 = *id,
        Some(OwnerName::Name { name, input }) => {
            if let Some(line) = find(scope, *input, "/etc/group", name)? {
                ids.1 = number(&line, 2);
            }
        }
    }
    Ok(Some((made(ids.0), made(ids.1))))
}

/// -1 leaves the owner as it is (chown(2)), which for what was just made is root.
fn made(id: u32) -> u32 {
    match id {
        u32::MAX => 0,
        id => id,
    }
}

/// The line of a name.
fn find(
    scope: &mut ActionScope<'_>,
    input: ActionInput,
    path: &str,
    name: &str,
) -> Result<Option<Vec<u8>>, FilesError> {
    if input == ActionInput::Scratch {
        return Err(FilesError::OwnerWithoutBase(name.into()));
    }
    let tree = scope.tree(input)?;
    let resolved = tree.resolve(path.as_bytes(), true)?;
    let Some(node) = tree.get(&resolved) else { return Ok(None) };
    let Some(bytes) = scope.contents.small_file(path, node)? else { return Ok(None) };
    let is_group = path.ends_with("group");
    Ok(bytes
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !(is_group && line.starts_with(b"#")))
        .find(|line| line.split(|byte| *byte == b':').next() == Some(name.as_bytes()))
        .filter(|line| !line.is_empty())
        .map(Into::into))
}

/// A number of a line; what is none counts as 0.
fn number(line: &[u8], field: usize) -> u32 {
    let field = line.split(|byte| *byte == b':').nth(field).unwrap_or_default();
    std::str::from_utf8(field).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The bytes of a file of names.
pub(super) fn read(
    layers: &dyn LayerFiles,
    path: &str,
    node: &Node,
) -> Result<Vec<u8>, FilesError> {
    let NodeKind::File { size, content, .. } = &node.kind else {
        return Err(FilesError::NameFile(path.into(), "it is not a regular file"));
    };
    if *size > MAX_NAME_FILE {
        return Err(FilesError::NameFile(path.into(), "it exceeds 10485760 bytes"));
    }
    let failed = |source: io::Error| FilesError::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    if *size > 0 {
        let reader = content.open(*size, layers).map_err(failed)?;
        reader.take(*size).read_to_end(&mut bytes).map_err(failed)?;
    }
    Ok(bytes)
}
