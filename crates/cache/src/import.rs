//! Reading a cache from a back end.

use std::sync::Arc;

use oci::Digest;

use crate::backend::{Backend, StoredCache};
use crate::sidecar::Sidecar;
use crate::{Error, RecordSet};

/// A cache that was read.
#[derive(Clone, Debug)]
pub struct ImportedCache {
    /// The cache's [`BackendSettings::identity`](crate::BackendSettings::identity).
    pub identity: Arc<str>,
    /// The cache's records.
    pub records: Arc<RecordSet>,
    /// Digest of the cache's manifest, or of the config where there is no manifest.
    pub manifest: Digest,
    /// The bytes of that document, to compare it with a new one.
    pub bytes: Vec<u8>,
    /// The cache's sidecar, where the back end keeps one. Nothing of it is read yet.
    pub sidecar: Option<Sidecar>,
}

impl dyn Backend + '_ {
    /// Reads the records of the cache that the back end holds now. No layer is read.
    ///
    /// # Errors
    /// If there is no cache ([`Error::is_absent`]), or it is damaged.
    pub async fn import(&self) -> Result<ImportedCache, Error> {
        let StoredCache { contents, digest, bytes } = self.read().await?;
        let records = RecordSet::new(&self.name(), &contents.config, &contents.layers)?;
        let sidecar = self.sidecar(records.sidecar());
        let identity = self.identity().into();
        Ok(ImportedCache { identity, records: records.into(), manifest: digest, bytes, sidecar })
    }
}
