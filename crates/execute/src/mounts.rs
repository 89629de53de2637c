//! What commands see besides their root: other steps' files, cache mounts, secrets, agents.

use std::path::Path;

use graph::{Mount, MountKind};
use runtime::{FileContent, Overlay, Writable};
use store::{Chain, Privileges, WritableSnapshot};

use crate::cache_mount::CacheMount;
use crate::executor::{Executor, blocking};
use crate::ssh::{Forward, SocketOwner};
use crate::{Error, Output};

/// The mounts of one command. Holds what must live as long as the command runs.
pub(crate) struct Mounts<'a> {
    executor: &'a Executor,
    inputs: &'a [Output],
    cache_mounts: Vec<CacheMount>,
    snapshots: Vec<WritableSnapshot>,
    agents: Vec<Forward>,
}

impl<'a> Mounts<'a> {
    /// Mounts of a command on its inputs.
    pub(crate) fn new(executor: &'a Executor, inputs: &'a [Output]) -> Self {
        Self {
            executor,
            inputs,
            cache_mounts: Vec::new(),
            snapshots: Vec::new(),
            agents: Vec::new(),
        }
    }

    /// What a mount shows; nothing for an optional one that was not given.
    pub(crate) async fn mount(
        &mut self,
        mount: &Mount,
    ) -> Result<Option<runtime::MountKind>, Error> {
        let kind = match &mount.kind {
            MountKind::Bind => self.bind(mount).await?,
            MountKind::Cache { id, sharing } => self.cache_mount(mount, id, *sharing).await?,
            MountKind::Tmpfs { size } => runtime::MountKind::Tmpfs {
                size: u64::try_from(*size).ok().filter(|size| *size > 0),
                readonly: mount.readonly,
            },
            MountKind::Secret { id, uid, gid, mode, optional } => {
                match self.executor.lent().secrets.get(id) {
                    Some(value) => runtime::MountKind::File {
                        content: FileContent::new(value.to_vec()),
                        mode: *mode,
                        uid: *uid,
                        gid: *gid,
                    },
                    None if *optional => return Ok(None),
                    None => return Err(Error::NoSecret { id: id.clone() }),
                }
            }
            MountKind::Ssh { .. } => match self.agent(&mount.kind)? {
                Some(kind) => kind,
                None => return Ok(None),
            },
        };
        Ok(Some(kind))
    }

    /// A socket that asks an agent, with the owner and mode that are wanted.
    fn agent(&mut self, kind: &MountKind) -> Result<Option<runtime::MountKind>, Error> {
        let MountKind::Ssh { id, uid, gid, mode, optional } = kind else { return Ok(None) };
        let id = if id.is_empty() { "default" } else { id };
        let Some(agent) = self.executor.lent().ssh.get(id) else {
            return if *optional { Ok(None) } else { Err(Error::NoAgent { id: id.to_owned() }) };
        };
        let owner = SocketOwner { uid: *uid, gid: *gid, mode: *mode };
        let forward = Forward::start(agent, self.executor.store(), owner)
            .map_err(|source| Error::Agent { id: id.to_owned(), source })?;
        let source = forward.path();
        self.agents.push(forward);
        Ok(Some(runtime::MountKind::Bind { source, subpath: String::new(), readonly: false }))
    }

    /// Layers of another step; what is written to them is thrown away.
    async fn bind(&mut self, mount: &Mount) -> Result<runtime::MountKind, Error> {
        let subpath = mount.selector.trim_matches('/').to_owned();
        let Some(input) = mount.input else {
            return Ok(runtime::MountKind::Tmpfs { size: None, readonly: mount.readonly });
        };
        let chain = self.executor.chain(&self.inputs[input]).await?;
        let overlay = self.view(&chain, !mount.readonly).await?;
        Ok(runtime::MountKind::Overlay { overlay, subpath, readonly: mount.readonly })
    }

    /// A view of a chain, with a place for writes that is thrown away where they are allowed.
    async fn view(&mut self, chain: &Chain, writable: bool) -> Result<Overlay, Error> {
        let store = self.executor.store().clone();
        let layers: Vec<_> = chain.layers().iter().map(|layer| layer.diff_id).collect();
        let snapshot = blocking(move || store.snapshot(&layers)).await?;
        let overlay = Overlay {
            lowers: snapshot.lowers.clone(),
            writable: writable
                .then(|| Writable { upper: snapshot.upper.clone(), work: snapshot.work.clone() }),
            userxattr: self.executor.store().privileges() == Privileges::UserNamespace,
        };
        self.snapshots.push(snapshot);
        Ok(overlay)
    }

    /// A folder that outlives builds. A fresh one begins with what its input shows.
    async fn cache_mount(
        &mut self,
        mount: &Mount,
        id: &str,
        sharing: graph::Sharing,
    ) -> Result<runtime::MountKind, Error> {
        let failed = |source| Error::CacheMount { id: id.to_owned(), source };
        let seed = match mount.input {
            Some(input) => Some(self.executor.chain(&self.inputs[input]).await?),
            None => None,
        };
        // A cache mount that begins with other files is another one, as in BuildKit.
        let name = match seed.as_ref().and_then(Chain::id) {
            Some(seed) => format!("{id}\0{seed}"),
            None => id.to_owned(),
        };
        let mounts = self.executor.cache_mounts().clone();
        let cache_mount = blocking(move || mounts.hold(&name, sharing)).await.map_err(failed)?;
        if cache_mount.fresh
            && let Some(chain) = seed
        {
            let (store, target) = (self.executor.store().clone(), cache_mount.path.clone());
            let layers: Vec<_> = chain.layers().iter().map(|layer| layer.diff_id).collect();
            blocking(move || store.checkout(&layers, &target)).await?;
        }
        let subpath = mount.selector.trim_matches('/').to_owned();
        let source = cache_mount.path.clone();
        let readonly = mount.readonly;
        self.cache_mounts.push(cache_mount);
        make_subpath(&source, &subpath).map_err(failed)?;
        Ok(runtime::MountKind::Bind { source, subpath, readonly })
    }
}

/// The folder of a cache mount that is mounted: made where it was never used.
fn make_subpath(folder: &Path, subpath: &str) -> std::io::Result<()> {
    if subpath.is_empty() || subpath.split('/').any(|part| part == "..") {
        return Ok(());
    }
    let path = folder.join(subpath);
    match path.symlink_metadata() {
        Ok(_) => Ok(()),
        Err(_) => std::fs::create_dir_all(path),
    }
}
