//! A text file of what a step left: the Dockerfile of a context that is no folder here.

use std::io::Read as _;

use transfer::blocking;
use tree::LayerPaths;
use tree::NodeKind;

use crate::executor::Executor;
use crate::{Error, StepOutput};

impl Executor {
    /// The first `limit` bytes of a file, links followed inside the output; none where there is no
    /// such file.
    ///
    /// # Errors
    /// If the output's layers cannot be brought here, or the file cannot be read.
    pub async fn read_file(
        &self,
        output: &StepOutput,
        path: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let tree = self.tree_of(output).await?;
        let unreadable = |reason: String| Error::ReadFile { path: path.to_owned(), reason };
        let path_bytes = path.as_bytes().to_vec();
        let resolved = tree.resolve(&path_bytes, true)?;
        let Some(node) = tree.get(&resolved) else { return Ok(None) };
        let NodeKind::File { size, content, .. } = &node.kind else {
            return Err(unreadable("it is not a file".into()));
        };
        if let (tree::Content::Layer { diff_id, path }, StepOutput::Chain(chain)) =
            (content, output)
        {
            let wanted = LayerPaths::from([(**diff_id, [path.clone()].into())]);
            self.fetch_files(chain, &wanted, None).await?;
        }
        let (content, size, store) = (content.clone(), *size, self.store().clone());
        let read = blocking(move || {
            let mut bytes = Vec::new();
            content.open(size, &store)?.take(limit).read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(bytes)
        });
        read.await.map(Some).map_err(|error| unreadable(error.to_string()))
    }
}
