//! The files of images that are here.

use std::io::{self, Read};
use std::path::Path;

use export::{EpochChoice, FilesRequest, FolderTarget, Image, PlatformImage, Product};
use layer::{Entry, EntryKind};
use transfer::{Transfer, blocking};
use tree::Tree;
use tree::{Content, Node, NodeKind};

use super::{ImageError, Kept, Porter};

/// The change of a path between two images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathChange {
    /// The second alone has it.
    Added,
    /// The first alone has it.
    Removed,
    /// Both have it, and these differ: `kind`, `mode`, and the like.
    Changed(Vec<&'static str>),
}

/// A path that two images have not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathDifference {
    /// The path, without a first `/`.
    pub path: Box<[u8]>,
    /// The change.
    pub change: PathChange,
}

impl Porter {
    fn transfer(&self) -> Transfer {
        Transfer::new(self.store.clone(), self.client.clone(), self.events.clone())
    }

    /// Writes an image's files into a folder, which is made where there is none. What is there
    /// already stays; what has the same name gives way.
    ///
    /// # Errors
    /// If a layer cannot be found, or the folder cannot be written.
    pub async fn extract(&self, image: &Kept, folder: &Path) -> Result<(), ImageError> {
        self.shown(format!("extracting to {}", folder.display()), async |task| {
            let image = Image {
                config: image.config.clone(),
                layers: image.layers.clone(),
                epoch: None,
                base_history: 0,
                base_layers: 0,
                rewritten: None,
            };
            let platform = image.config.platform();
            let images = vec![PlatformImage { platform, image, attestations: Vec::new() }];
            let product = Product { images, is_index: false };
            let request = FilesRequest {
                product: &product,
                platform_split: None,
                attestation_prefix: "",
                epoch: EpochChoice::default(),
                task: Some(task),
            };
            let target = FolderTarget { folder, delete: false };
            export::write_folder(&self.transfer(), &request, &target)
                .await
                .map_err(|error| ImageError::Files(Box::new(error)))
        })
        .await
    }

    /// The differences between the files of two images, by path; times too if `times` is true.
    ///
    /// # Errors
    /// If a layer cannot be found, or cannot be read.
    pub async fn compare_files(
        &self,
        (first, second): (&Kept, &Kept),
        times: bool,
    ) -> Result<Vec<PathDifference>, ImageError> {
        self.shown("comparing files".to_owned(), async |task| {
            let transfer = self.transfer();
            for image in [first, second] {
                transfer
                    .unpack(&image.layers, Some(task))
                    .await
                    .map_err(|error| ImageError::Layer(Box::new(error)))?;
            }
            let comparison = Comparison { store: self.store.clone(), times };
            let (first, second) = (comparison.tree(first)?, comparison.tree(second)?);
            blocking(move || comparison.of(&first, &second)).await
        })
        .await
    }
}

struct Comparison {
    store: store::Store,
    times: bool,
}

impl Comparison {
    fn tree(&self, image: &Kept) -> Result<Tree, ImageError> {
        let mut tree = Tree::new();
        for layer in &image.layers {
            tree.apply_layer(layer.diff_id, &*self.store.index(&layer.diff_id)?)
                .map_err(|error| ImageError::Archive(error.to_string()))?;
        }
        Ok(tree)
    }

    fn of(&self, first: &Tree, second: &Tree) -> Result<Vec<PathDifference>, ImageError> {
        let mut differences = Vec::new();
        let mut failed = None;
        first.walk(|path, node| {
            let change = match second.get(path) {
                None => Some(PathChange::Removed),
                Some(other) => match self.aspects(path, node, other) {
                    Ok(aspects) => (!aspects.is_empty()).then_some(PathChange::Changed(aspects)),
                    Err(error) => {
                        failed.get_or_insert(error);
                        None
                    }
                },
            };
            differences.extend(change.map(|change| PathDifference { path: path.into(), change }));
        });
        if let Some(error) = failed {
            return Err(ImageError::CompareFiles(error));
        }
        second.walk(|path, _| {
            if first.get(path).is_none() {
                differences.push(PathDifference { path: path.into(), change: PathChange::Added });
            }
        });
        differences.sort_by(|a, b| layer::compare_paths(&a.path, &b.path));
        Ok(differences)
    }

    /// The differences between two nodes of one path.
    fn aspects(&self, path: &[u8], first: &Node, second: &Node) -> io::Result<Vec<&'static str>> {
        let (one, other): (Entry, Entry) = (first.to_entry(path), second.to_entry(path));
        let mut aspects = Vec::new();
        let mut check = |name, differs: bool| aspects.extend(differs.then_some(name));
        match (&one.kind, &other.kind) {
            (EntryKind::File { .. }, EntryKind::File { .. }) => {
                check("content", !self.same_content(first, second)?);
            }
            (EntryKind::Symlink { .. }, EntryKind::Symlink { .. }) => {
                check("target", one.kind != other.kind);
            }
            _ => check("kind", one.kind != other.kind),
        }
        check("mode", one.mode != other.mode);
        check("owner", (one.uid, one.gid) != (other.uid, other.gid));
        check("attributes", one.xattrs != other.xattrs);
        check("time", self.times && one.mtime != other.mtime);
        Ok(aspects)
    }

    fn same_content(&self, first: &Node, second: &Node) -> io::Result<bool> {
        let (
            NodeKind::File { size: of_first, content: first, .. },
            NodeKind::File { size: of_second, content: second, .. },
        ) = (&first.kind, &second.kind)
        else {
            return Ok(false);
        };
        if of_first != of_second {
            return Ok(false);
        }
        if first.id() == second.id() {
            return Ok(true);
        }
        let open = |content: &Content| content.open(*of_first, &self.store);
        same_bytes(open(first)?, open(second)?)
    }
}

/// True if two streams have the same bytes.
fn same_bytes(mut first: impl Read, mut second: impl Read) -> io::Result<bool> {
    const PIECE: u64 = 1 << 16;
    let (mut one, mut other) = (Vec::new(), Vec::new());
    loop {
        one.clear();
        other.clear();
        first.by_ref().take(PIECE).read_to_end(&mut one)?;
        second.by_ref().take(PIECE).read_to_end(&mut other)?;
        if one != other {
            return Ok(false);
        }
        if one.is_empty() {
            return Ok(true);
        }
    }
}
