//! The files of results: in a folder, or as an archive.

use std::collections::hash_map::Entry as HashEntry;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::path::Path;

use graph::TaskId;
use layer::tar::TarWriter;
use layer::{Entry, EntryKind, Layer, Time};
use oci::{Digest, Hasher, Platform};
use store::Store;
use transfer::{Transfer, blocking};
use tree::Tree;
use tree::{ContentId, NodeKind};

use crate::folder::Placing;
use crate::{Attestation, EpochChoice, Error, PlatformImage, Product, Subject};

/// One export of files.
pub struct FilesRequest<'a> {
    /// The product whose files are written.
    pub product: &'a Product,
    /// Gives each platform its own folder, as `linux_amd64`; if unset, only where there are
    /// several.
    pub platform_split: Option<bool>,
    /// The prefix of the names of attestations' files.
    pub attestation_prefix: &'a str,
    /// The time of all files, where one is asked for.
    pub epoch: EpochChoice,
    /// The task that shows it.
    pub task: Option<TaskId>,
}

/// A folder that files are written into.
#[derive(Clone, Copy, Debug)]
pub struct FolderTarget<'a> {
    /// The folder; made where there is none.
    pub folder: &'a Path,
    /// Deletes files in the folder that the result does not have.
    pub delete: bool,
}

/// The files of one platform.
struct PlatformFiles {
    /// The folder that they are in; empty without one.
    folder: String,
    platform: Platform,
    layers: Vec<Layer>,
    attestations: Vec<Attestation>,
    /// The names of attestations: their prefix, and the text before their extension.
    attestation_name: (String, String),
    /// The time of all files.
    time: Option<Time>,
}

impl FilesRequest<'_> {
    /// The folder of each platform, as BuildKit's local exporter arranges them.
    fn platforms(&self) -> Vec<PlatformFiles> {
        let several = self.product.is_index || self.product.images.len() > 1;
        let split = self.platform_split.unwrap_or(several);
        let files = |image: &PlatformImage| {
            let name = image.platform.to_string().replace('/', "_");
            let epoch = self.epoch.over(image.image.epoch);
            PlatformFiles {
                folder: if split { name.clone() } else { String::new() },
                platform: image.platform.clone(),
                layers: image.image.layers.clone(),
                attestations: image
                    .attestations
                    .iter()
                    .filter(|attestation| !attestation.inline_only)
                    .cloned()
                    .collect(),
                attestation_name: (
                    self.attestation_prefix.to_owned(),
                    if several && !split { format!(".{name}") } else { String::new() },
                ),
                time: epoch.map(|seconds| Time { seconds, nanos: 0 }),
            }
        };
        self.product.images.iter().map(files).collect()
    }
}

/// Writes the files of results into a folder. Existing files stay, unless they are to be deleted or
/// have the name of a new one. A file gets its name when it is complete.
///
/// # Errors
/// If a layer cannot be found, two platforms have the same file, or the folder cannot be written.
pub async fn write_folder(
    transfer: &Transfer,
    request: &FilesRequest<'_>,
    target: &FolderTarget<'_>,
) -> Result<(), Error> {
    let platforms = request.platforms();
    for files in &platforms {
        transfer.unpack(&files.layers, request.task).await?;
    }
    let (store, folder, delete) =
        (transfer.store().clone(), target.folder.to_owned(), target.delete);
    blocking(move || {
        let placing = Placing::begin(&folder)?;
        let mut paths = Paths::default();
        for files in &platforms {
            let tree = files.tree(&store)?;
            paths.add(files, &tree)?;
            let inside = placing.make_folder(&files.folder)?;
            store.checkout(&files.diff_ids(), &inside)?;
            for (name, bytes) in files.statements(&tree, &store)? {
                placing.write(&inside, &name, &bytes)?;
            }
            placing.settle(&inside, files.time)?;
        }
        placing.finish(delete)
    })
    .await
}

/// Writes the files of results as an archive, in the order of their paths.
///
/// # Errors
/// If a layer cannot be found, two platforms have the same file, or the archive cannot be written.
pub async fn write_tar(
    transfer: &Transfer,
    request: &FilesRequest<'_>,
    out: impl Write + Send + 'static,
) -> Result<(), Error> {
    let platforms = request.platforms();
    for files in &platforms {
        transfer.unpack(&files.layers, request.task).await?;
    }
    let store = transfer.store().clone();
    blocking(move || {
        let mut tar = TarWriter::new(io::BufWriter::with_capacity(1 << 18, out));
        let mut paths = Paths::default();
        for files in &platforms {
            let tree = files.tree(&store)?;
            paths.add(files, &tree)?;
            files.archive(&tree, &store, &mut tar)?;
        }
        tar.finish()?.flush().map_err(Error::WriteArchive)
    })
    .await
}

/// Files that were written, and for which platform: without a folder for each, none may have
/// what another has.
#[derive(Default)]
struct Paths(BTreeMap<Vec<u8>, Platform>);

impl Paths {
    fn add(&mut self, files: &PlatformFiles, tree: &Tree) -> Result<(), Error> {
        if !files.folder.is_empty() {
            return Ok(());
        }
        let mut twice = None;
        tree.walk(|path, node| {
            if node.is_directory() || twice.is_some() {
                return;
            }
            if let Some(other) = self.0.insert(path.to_vec(), files.platform.clone()) {
                twice = Some((String::from_utf8_lossy(path).into_owned(), other));
            }
        });
        match twice {
            None => Ok(()),
            // The words are BuildKit's.
            Some((path, other)) => Err(Error::Format(format!(
                "cannot overwrite {path} from {other} with {} when split option is disabled",
                files.platform
            ))),
        }
    }
}

impl PlatformFiles {
    fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.diff_id).collect()
    }

    fn tree(&self, store: &Store) -> Result<Tree, Error> {
        let mut tree = Tree::new();
        for layer in &self.layers {
            tree.apply_layer(layer.diff_id, &*store.index(&layer.diff_id)?)
                .map_err(|error| Error::Format(error.to_string()))?;
        }
        Ok(tree)
    }

    /// Names and bytes of the statements about the files.
    fn statements(&self, tree: &Tree, store: &Store) -> Result<Vec<(String, Vec<u8>)>, Error> {
        if self.attestations.is_empty() {
            return Ok(Vec::new());
        }
        let subjects = subjects(tree, store)?;
        let mut statements: Vec<(String, Vec<u8>)> = Vec::new();
        for attestation in &self.attestations {
            let name = self.statement_name(&attestation.file_name);
            if statements.iter().any(|(known, _)| *known == name) {
                return Err(Error::Format(format!("duplicate attestation path name {name}")));
            }
            statements.push((name, attestation.pretty(&subjects)));
        }
        Ok(statements)
    }

    fn statement_name(&self, file_name: &str) -> String {
        let (prefix, infix) = &self.attestation_name;
        match file_name.rsplit_once('.') {
            Some((stem, extension)) => format!("{prefix}{stem}{infix}.{extension}"),
            None => format!("{prefix}{file_name}{infix}"),
        }
    }

    fn archive(
        &self,
        tree: &Tree,
        store: &Store,
        tar: &mut TarWriter<impl Write>,
    ) -> Result<(), Error> {
        let place = |path: Box<[u8]>| match (self.folder.as_bytes(), &*path) {
            ([], _) => path,
            (folder, []) => folder.into(),
            (folder, path) => [folder, b"/", path].concat().into(),
        };
        let mut member = |mut entry: Entry, content: &mut dyn Read| {
            entry.path = place(entry.path);
            entry.mtime = self.time.unwrap_or(entry.mtime);
            tar.append(&entry, content)
        };
        if !self.folder.is_empty() {
            member(Entry::new(*b"", EntryKind::Directory, 0o755), &mut io::empty())?;
        }
        let mut result = Ok(());
        let mut first_names: HashMap<ContentId, Box<[u8]>> = HashMap::new();
        tree.walk(|path, node| {
            if result.is_err() || path.is_empty() {
                return;
            }
            let mut entry = node.to_entry(path);
            if let NodeKind::File { content, linked: true, .. } = &node.kind {
                match first_names.entry(content.id()) {
                    HashEntry::Occupied(first) => {
                        entry.kind = EntryKind::HardLink { target: place(first.get().clone()) };
                        result = member(entry, &mut io::empty()).map_err(Error::from);
                        return;
                    }
                    HashEntry::Vacant(new) => {
                        new.insert(path.into());
                    }
                }
            }
            result = match &node.kind {
                NodeKind::File { size, content, .. } => content
                    .open(*size, store)
                    .map_err(Error::WriteArchive)
                    .and_then(|mut content| Ok(member(entry, &mut content)?)),
                _ => member(entry, &mut io::empty()).map_err(Error::from),
            };
        });
        result?;
        for (name, bytes) in self.statements(tree, store)? {
            let kind = EntryKind::File { size: bytes.len() as u64 };
            member(Entry::new(name.as_bytes(), kind, 0o600), &mut bytes.as_slice())?;
        }
        Ok(())
    }
}

/// The subjects of statements about files: each regular file, in the order of their paths.
fn subjects(tree: &Tree, store: &Store) -> Result<Vec<Subject>, Error> {
    let mut subjects = Vec::new();
    let mut result = Ok(());
    tree.walk(|path, node| {
        if let (Ok(()), NodeKind::File { size, content, .. }) = (&result, &node.kind) {
            let digest = content.open(*size, store).and_then(|mut content| {
                let mut hasher = Hasher::new();
                io::copy(&mut content, &mut hasher)?;
                Ok(hasher.finish())
            });
            match digest {
                Ok(digest) => {
                    subjects.push(Subject::new(String::from_utf8_lossy(path), &digest));
                }
                Err(source) => {
                    let path = String::from_utf8_lossy(path).into_owned().into();
                    result = Err(Error::Read { path, source });
                }
            }
        }
    });
    result.map(|()| subjects)
}
