//! COPY, ADD, WORKDIR and inline files, without a disk: trees of headers in, a layer out.
//!
//! The actions are played on a copy of the base's tree as BuildKit plays them on a mounted one,
//! times of directories included (`MutableTree`). Then the difference between the two trees is
//! written as a layer, straight from the sources. Nothing needs a privilege, and of the base
//! only `/etc/passwd` and `/etc/group` are ever read.

mod changes;
mod copy;
mod error;
mod mode;
mod mutable_tree;
mod owner;
mod unpack;

use graph::{Action, ActionInput, ActionKind, FilesOp, OwnerName};
use layer::{Compression, Layer, Time};
use store::Store;
use tree::LayerPaths;
use tree::{Content, Node, NodeKind, RootHeader, Tree};

use changes::TreeChange;
pub use error::FilesError;
use mutable_tree::MutableTree;

/// Runs file operations.
pub struct FilesRunner<'a> {
    /// The store of the layers read and of the new one.
    pub store: &'a Store,
    /// The time of what is made.
    pub now: Time,
    /// The precision of copied files' times.
    pub times: Times,
    /// The new layer's compression.
    pub compression: Compression,
    /// The new layer's creation time, RFC 3339.
    pub created: Option<String>,
    /// The action where a file below could equal a new one but is not here.
    pub unread: Unread,
}

/// The action for a new file that may equal one below that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Nothing is written: [`FilesError::Unread`] names what is to be brought.
    Ask,
    /// It is written, though it may be there already.
    Write,
}

/// The precision of a layer's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Whole seconds, as in the layers that BuildKit writes.
    Seconds,
    /// Unchanged: for files that a RUN sees and no image contains.
    Exact,
}

/// The result of a file operation.
#[derive(Clone, Debug)]
pub struct FilesOutput {
    /// The input that the layer belongs onto; none for an empty tree.
    pub base: Option<usize>,
    /// The layer; also where nothing changed, as in BuildKit. Its index is in the store.
    pub layer: Layer,
}

impl FilesRunner<'_> {
    /// Runs an operation on its inputs' trees. Files that [`contents_needed`] names must be here.
    ///
    /// # Errors
    /// If BuildKit would refuse it, or reading or writing fails; [`FilesError::Unread`] where it asks.
    pub fn run(&self, op: &FilesOp, inputs: &[Tree]) -> Result<FilesOutput, FilesError> {
        let mut contents = StoreContents { store: self.store };
        let played = play(op, inputs, self.now, &mut contents)?;
        let base = played.base.and_then(|base| inputs.get(base));
        let layer = self.write(&self.difference(base, &played.rootfs)?)?;
        Ok(FilesOutput { base: played.base, layer })
    }

    /// Writes the difference between two trees as one layer: the sum of all steps between them.
    /// Files that [`fold_needed`] names must be here.
    ///
    /// # Errors
    /// If reading or writing fails; [`FilesError::Unread`] where it asks.
    pub fn fold(&self, below: &Tree, tree: &Tree) -> Result<Layer, FilesError> {
        self.write(&self.difference(Some(below), &MutableTree::found(tree))?)
    }

    fn difference<'w>(
        &self,
        base: Option<&Tree>,
        rootfs: &'w MutableTree,
    ) -> Result<Vec<TreeChange<'w>>, FilesError> {
        let mut unread = LayerPaths::new();
        let mut same = |size, old: &Content, new: &Content| {
            let Ok(mut below) = old.open(size, self.store) else {
                note(&mut unread, old);
                return false;
            };
            // An unreadable file is reported when it is written.
            new.open(size, self.store)
                .and_then(|mut new| tree::same_bytes(size, &mut below, &mut new))
                .unwrap_or(false)
        };
        let changes = changes::difference(base, rootfs, &mut same);
        match self.unread == Unread::Ask && !unread.is_empty() {
            true => Err(FilesError::Unread(unread)),
            false => Ok(changes),
        }
    }

    fn write(&self, changes: &[TreeChange<'_>]) -> Result<Layer, FilesError> {
        let mut writer = self.store.layer_writer(self.compression).map_err(FilesError::Write)?;
        changes::write(changes, self.store, &mut |mut entry, content| {
            if self.times == Times::Seconds {
                entry.mtime.nanos = 0;
            }
            writer.append(&entry, content).map_err(FilesError::Write)
        })?;
        let mut layer = writer.finish().map_err(FilesError::Write)?;
        layer.created = self.created.clone();
        Ok(layer)
    }
}

/// The files of layers that must be here for [`FilesRunner::fold`].
pub fn fold_needed(below: &Tree, tree: &Tree) -> LayerPaths {
    let mut needed = NeededContents::default();
    needed.note_difference(Some(below), &MutableTree::found(tree));
    needed.files
}

/// The files of layers that must be here for [`FilesRunner::run`]: those that are copied, and those
/// that names are looked up in.
///
/// # Errors
/// If the operation will be refused.
pub fn contents_needed(op: &FilesOp, inputs: &[Tree]) -> Result<LayerPaths, FilesError> {
    if op.actions.iter().all(|action| reads_no_layer(action, inputs)) {
        return Ok(LayerPaths::new());
    }
    let mut needed = NeededContents::default();
    let played = play(op, inputs, Time::default(), &mut needed)?;
    let base = played.base.and_then(|base| inputs.get(base));
    needed.note_difference(base, &played.rootfs);
    Ok(needed.files)
}

/// True if an action surely reads no layer: it copies from the context or makes something, and has
/// no names to look up.
fn reads_no_layer(action: &Action, inputs: &[Tree]) -> bool {
    let (owner, from) = match &action.kind {
        ActionKind::Copy(copy) => (&copy.owner, Some(copy.from)),
        ActionKind::MakeDir { owner, .. } => (owner, None),
        ActionKind::MakeFile { .. } => return true,
    };
    let names = owner.iter().flat_map(|owner| [&owner.user, &owner.group]).flatten();
    if names.into_iter().any(|name| matches!(name, OwnerName::Name { .. })) {
        return false;
    }
    match from {
        None => true,
        Some(ActionInput::Input(number)) => {
            inputs.get(number).is_some_and(|tree| tree.root_header() == RootHeader::Unsent)
        }
        Some(_) => false,
    }
}

/// Access to contents while an operation is played.
trait ContentSource {
    /// The bytes of a small file; `None` while it is only found out what is needed.
    fn small_file(&mut self, path: &str, node: &Node) -> Result<Option<Vec<u8>>, FilesError>;
    /// The store to read archives with; `None` while only the needed files are collected.
    fn archives(&mut self, node: &Node) -> Option<&Store>;
}

struct StoreContents<'a> {
    store: &'a Store,
}

impl ContentSource for StoreContents<'_> {
    fn small_file(&mut self, path: &str, node: &Node) -> Result<Option<Vec<u8>>, FilesError> {
        owner::read(self.store, path, node).map(Some)
    }

    fn archives(&mut self, _: &Node) -> Option<&Store> {
        Some(self.store)
    }
}

#[derive(Default)]
struct NeededContents {
    files: LayerPaths,
}

impl NeededContents {
    fn note(&mut self, node: Option<&Node>) {
        if let Some(Node { kind: NodeKind::File { content, size, .. }, .. }) = node
            && *size > 0
        {
            note(&mut self.files, content);
        }
    }

    /// Notes files that may be unchanged like changed ones.
    fn note_difference(&mut self, base: Option<&Tree>, rootfs: &MutableTree) {
        for change in changes::difference(base, rootfs, &mut |_, _, _| false) {
            self.note(change.node());
        }
    }
}

fn note(files: &mut LayerPaths, content: &Content) {
    if let Content::Layer { diff_id, path } = content {
        files.entry(**diff_id).or_default().insert(path.clone());
    }
}

impl ContentSource for NeededContents {
    fn small_file(&mut self, _: &str, node: &Node) -> Result<Option<Vec<u8>>, FilesError> {
        self.note(Some(node));
        Ok(None)
    }

    fn archives(&mut self, node: &Node) -> Option<&Store> {
        self.note(Some(node));
        None
    }
}

/// The tree after an operation's last action, and the input that it began as.
struct Played {
    base: Option<usize>,
    rootfs: MutableTree,
}

fn play(
    op: &FilesOp,
    inputs: &[Tree],
    now: Time,
    contents: &mut dyn ContentSource,
) -> Result<Played, FilesError> {
    let mut uses = uses(op);
    let mut done: Vec<Option<Played>> = Vec::with_capacity(op.actions.len());
    for action in &op.actions {
        let base = action.base;
        let (base, rootfs) = match base {
            ActionInput::Scratch => (None, MutableTree::new(Tree::new(), now)),
            ActionInput::Input(number) => {
                let tree = inputs.get(number).ok_or(FilesError::NoTree(base))?;
                (Some(number), MutableTree::new(tree.clone(), now))
            }
            ActionInput::Action(number) => {
                // A tree without other users is modified in place; a shared one would be copied
                // first.
                let last = uses.get_mut(number).map(|uses| std::mem::replace(uses, *uses - 1));
                let played = done.get_mut(number).ok_or(FilesError::NoTree(base))?;
                let played = match last {
                    Some(1) => played.take().map(|played| (played.base, played.rootfs)),
                    _ => played.as_ref().map(|played| (played.base, played.rootfs.clone())),
                };
                played.ok_or(FilesError::NoTree(base))?
            }
        };
        let mut scope = ActionScope { rootfs, inputs, done: &done, contents };
        scope.action(action)?;
        let rootfs = scope.rootfs;
        if let ActionKind::Copy(copy) = &action.kind
            && let ActionInput::Action(number) = copy.from
            && let Some(uses) = uses.get_mut(number)
        {
            *uses -= 1;
        }
        done.push(Some(Played { base, rootfs }));
    }
    done.pop().flatten().ok_or(FilesError::NoTree(ActionInput::Action(0)))
}

/// The number of later actions that use each action's result.
fn uses(op: &FilesOp) -> Vec<usize> {
    let mut uses = vec![0; op.actions.len()];
    let mut count = |input| {
        if let ActionInput::Action(number) = input
            && let Some(uses) = uses.get_mut(number)
        {
            *uses += 1;
        }
    };
    for action in &op.actions {
        count(action.base);
        if let ActionKind::Copy(copy) = &action.kind {
            count(copy.from);
        }
    }
    uses
}

/// The trees that an action sees and changes.
struct ActionScope<'a> {
    rootfs: MutableTree,
    inputs: &'a [Tree],
    done: &'a [Option<Played>],
    contents: &'a mut dyn ContentSource,
}

impl ActionScope<'_> {
    /// A tree that the action reads.
    fn tree(&self, input: ActionInput) -> Result<Tree, FilesError> {
        let missing = FilesError::NoTree(input);
        match input {
            ActionInput::Scratch => Ok(Tree::new()),
            ActionInput::Input(number) => self.inputs.get(number).cloned().ok_or(missing),
            ActionInput::Action(number) => {
                let played = self.done.get(number).and_then(Option::as_ref);
                played.map(|played| played.rootfs.tree.clone()).ok_or(missing)
            }
        }
    }

    fn action(&mut self, action: &Action) -> Result<(), FilesError> {
        match &action.kind {
            ActionKind::Copy(copy) => copy::copy(self, copy),
            ActionKind::MakeFile { path, mode, data } => {
                self.rootfs.make_file(path.as_bytes(), mode & 0o777, data)
            }
            ActionKind::MakeDir { path, mode, make_parents, owner, timestamp } => {
                let owner = owner::resolve(self, owner.as_ref())?;
                let path = self.rootfs.tree.resolve(path.as_bytes(), true)?;
                let time = timestamp.map(from_nanoseconds);
                if *make_parents {
                    self.rootfs.make_directories(&path, mode & 0o777, owner, time)
                } else if self.rootfs.lstat(&path)?.is_some() {
                    Ok(())
                } else {
                    self.rootfs.make_directory(&path, mode & 0o777, owner, time)
                }
            }
        }
    }
}

fn from_nanoseconds(nanoseconds: i64) -> Time {
    const SECOND: i64 = 1_000_000_000;
    Time { seconds: nanoseconds.div_euclid(SECOND), nanos: nanoseconds.rem_euclid(SECOND) as u32 }
}

#[cfg(test)]
mod tests;
