//! A command's mounts besides its root: other steps' files, cache mounts, secrets, agents.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;

use graph::{Mount, MountKind, Sharing, TaskEvent, TaskId};
use layer::Chain;
use runtime::{FileContent, Overlay, Runtime, Writable};
use store::{Privileges, ScratchFolder, WritableSnapshot};
use transfer::blocking;

use crate::cache_mount::{CacheMount, FoundMount, UsedMount};
use crate::executor::Executor;
use crate::ssh::{Forward, SocketOwner};
use crate::{Error, StepOutput};

/// The mounts of one command. Holds what must live as long as the command runs.
pub(crate) struct Mounts<'a> {
    executor: &'a Executor,
    inputs: &'a [StepOutput],
    cache_mounts: Vec<CacheMount>,
    /// Those that are held before any is placed, by name; each can be placed once.
    held: HashMap<String, Option<CacheMount>>,
    snapshots: Vec<WritableSnapshot>,
    agents: Vec<Forward>,
    checkouts: Vec<ScratchFolder>,
    has_overlays: bool,
}

impl<'a> Mounts<'a> {
    /// Mounts of a command on its inputs.
    pub(crate) fn new(executor: &'a Executor, inputs: &'a [StepOutput], runtime: &Runtime) -> Self {
        Self {
            executor,
            inputs,
            cache_mounts: Vec::new(),
            held: HashMap::new(),
            snapshots: Vec::new(),
            agents: Vec::new(),
            checkouts: Vec::new(),
            has_overlays: runtime.has_overlays(),
        }
    }

    /// Takes all cache mounts for this command alone, for where a folder can be in one root only. In the order of
    /// their names: two commands that want the same ones must not wait for each other.
    pub(crate) async fn hold_in_order(&mut self, mounts: &[Mount]) -> Result<(), Error> {
        let mut names = Vec::new();
        for mount in mounts {
            if let MountKind::Cache { id, sharing } = &mount.kind {
                let (name, _) = self.cache_name(mount, id).await?;
                names.push((name, id, *sharing));
            }
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = names.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::Unsupported(format!(
                "the cache mount `{}` at two places of one command: that needs mounts, which this machine does not \
                 allow",
                pair[0].1
            )));
        }
        for (name, id, sharing) in names {
            let sharing = match sharing {
                Sharing::Shared => Sharing::Locked,
                other => other,
            };
            let held = self.hold(&name, id, sharing).await?;
            self.held.insert(name, Some(held));
        }
        Ok(())
    }

    async fn hold(&self, name: &str, id: &str, sharing: Sharing) -> Result<CacheMount, Error> {
        let failed = |source| Error::CacheMount { id: id.to_owned(), source };
        self.bring(name, id).await.map_err(failed)?;
        self.executor.note_mount(UsedMount { name: name.to_owned(), id: id.to_owned() });
        let (mounts, name) = (self.executor.cache_mounts().clone(), name.to_owned());
        blocking(move || mounts.hold(&name, sharing)).await.map_err(failed)
    }

    /// The source of a mount; none for an optional one that was not given.
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
                match self.executor.credentials().secret(id).await? {
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
            MountKind::Ssh { .. } => match self.agent(&mount.kind).await? {
                Some(kind) => kind,
                None => return Ok(None),
            },
        };
        Ok(Some(kind))
    }

    /// A socket that asks an agent, with the owner and mode that are wanted.
    async fn agent(&mut self, kind: &MountKind) -> Result<Option<runtime::MountKind>, Error> {
        let MountKind::Ssh { id, uid, gid, mode, optional } = kind else { return Ok(None) };
        let id = if id.is_empty() { "default" } else { id };
        let Some(agent) = self.executor.credentials().agent(id).await? else {
            return if *optional { Ok(None) } else { Err(Error::NoAgent { id: id.to_owned() }) };
        };
        let owner = SocketOwner { uid: *uid, gid: *gid, mode: *mode };
        let forward = Forward::start(&agent, self.executor.store(), owner)
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
        if !self.has_overlays {
            return self.checkout(&chain, &subpath, mount.readonly).await;
        }
        let overlay = self.view(&chain, !mount.readonly).await?;
        Ok(runtime::MountKind::Overlay { overlay, subpath, readonly: mount.readonly })
    }

    /// A copy of a part of a chain, for where no overlay can be mounted.
    async fn checkout(
        &mut self,
        chain: &Chain,
        subpath: &str,
        readonly: bool,
    ) -> Result<runtime::MountKind, Error> {
        let tree = self.executor.tree(chain)?;
        let path = tree.resolve(subpath.as_bytes(), true)?;
        let subpath = String::from_utf8(path.clone()).map_err(|_| {
            Error::Unsupported(format!(
                "`{subpath}`, to be mounted, leads to a name that is no UTF-8"
            ))
        })?;
        let store = self.executor.store().clone();
        let layers: Vec<_> = chain.layers().iter().map(|layer| layer.diff_id).collect();
        let (folder, source) = blocking(move || store.checkout_path(&layers, &path)).await?;
        self.checkouts.push(folder);
        Ok(runtime::MountKind::Bind { source, subpath, readonly })
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

    /// The local name of a cache mount, and the initial content of a fresh one.
    async fn cache_name(&self, mount: &Mount, id: &str) -> Result<(String, Option<Chain>), Error> {
        let seed = match mount.input {
            Some(input) => Some(self.executor.chain(&self.inputs[input]).await?),
            None => None,
        };
        // A cache mount that begins with other files is another one, as in BuildKit.
        let name = match seed.as_ref().and_then(Chain::id) {
            Some(seed) => format!("{id}\0{seed}"),
            None => id.to_owned(),
        };
        Ok((name, seed))
    }

    /// A folder that outlives builds. A fresh one begins with what its input shows.
    async fn cache_mount(
        &mut self,
        mount: &Mount,
        id: &str,
        sharing: Sharing,
    ) -> Result<runtime::MountKind, Error> {
        let failed = |source| Error::CacheMount { id: id.to_owned(), source };
        let (name, seed) = self.cache_name(mount, id).await?;
        let cache_mount = match self.held.get_mut(&name).and_then(Option::take) {
            Some(held) => held,
            None => self.hold(&name, id, sharing).await?,
        };
        if cache_mount.fresh
            && let Some(chain) = seed
        {
            self.say_ignored_owner(&chain, id)?;
            let (store, target) = (self.executor.store().clone(), cache_mount.path.clone());
            let layers: Vec<_> = chain.layers().iter().map(|layer| layer.diff_id).collect();
            blocking(move || store.checkout(&layers, &target)).await?;
        }
        let subpath = mount.selector.trim_matches('/').to_owned();
        let source = cache_mount.path.clone();
        let readonly = mount.readonly;
        self.cache_mounts.push(cache_mount);
        // Made where it was never used, and inside the mount, whatever links earlier commands have left in it.
        let (folder, below) = (source.clone(), subpath.clone());
        blocking(move || runtime::make_folders(&folder, &below)).await.map_err(failed)?;
        Ok(runtime::MountKind::Bind { source, subpath, readonly })
    }
}

impl Mounts<'_> {
    /// Says that a cache mount does not begin with the owner that was asked for, where there is but
    /// one user.
    fn say_ignored_owner(&self, seed: &Chain, id: &str) -> Result<(), Error> {
        let store = self.executor.store();
        if !store.ignores_owners() {
            return Ok(());
        }
        for layer in seed.layers() {
            let index = store.index(&layer.diff_id)?;
            let other = index.entries().iter().find(|entry| (entry.uid, entry.gid) != (0, 0));
            if let Some(entry) = other {
                let (uid, gid) = (entry.uid, entry.gid);
                let events = self.executor.events();
                let task = events.task(format!("cache mount {id}"), Vec::new());
                events.send(task, TaskEvent::Started);
                let text = format!(
                    "it belongs to root, not to {uid}:{gid}: there is no other user here; with \
                     entries in /etc/subuid and /etc/subgid there are"
                );
                events.send(task, TaskEvent::Warning(text.into()));
                events.send(task, TaskEvent::Done);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Imports a cache mount that is not here from a cache that has it. A failure is only a
    /// warning, because the mount can begin empty.
    async fn bring(&self, name: &str, id: &str) -> std::io::Result<()> {
        let Some(source) = self.executor.mount_source() else { return Ok(()) };
        let (mounts, wanted) = (self.executor.cache_mounts().clone(), name.to_owned());
        let Some(reserved) = blocking(move || mounts.reserve(&wanted)).await? else {
            return Ok(());
        };
        let Some(found) = source.find(name).await else { return Ok(()) };
        let events = self.executor.events();
        let task = events.task(format!("importing cache mount {id}"), Vec::new());
        events.send(task, TaskEvent::Started);
        let called = id.to_owned();
        let failed = move |source| Error::CacheMount { id: called.clone(), source };
        let brought = async {
            let layers = self.unpack_mount(&found, task).await?;
            let store = self.executor.store().clone();
            blocking(move || {
                let scratch = store.scratch_folder()?;
                // The mode of a fresh mount, independent of the umask and the scratch folder.
                let folder = scratch.path().join("mount");
                std::fs::create_dir(&folder).map_err(&failed)?;
                let mode = std::fs::Permissions::from_mode(0o755);
                std::fs::set_permissions(&folder, mode).map_err(&failed)?;
                store.checkout(&layers, &folder)?;
                reserved.fill(&folder).map_err(failed)
            })
            .await
        };
        if let Err(error) = brought.await {
            let text = format!("it begins empty: {}", transfer::chain_text(&error));
            events.send(task, TaskEvent::Warning(text.into()));
        }
        events.send(task, TaskEvent::Done);
        Ok(())
    }
}

impl Mounts<'_> {
    /// Unpacks the layers of a cache mount, as far as they are worth it: what a few bytes unpack to
    /// is bounded by their number, and by what a mount may have.
    async fn unpack_mount(
        &self,
        found: &FoundMount,
        task: TaskId,
    ) -> Result<Vec<oci::Digest>, Error> {
        let sizes = found.layers.iter().filter_map(|layer| layer.blob.as_ref());
        let sent: u64 = sizes.map(|blob| blob.size).sum();
        let by_rate = ARCHIVE_OF_A_BYTE.saturating_mul(sent);
        let mut left = found.most.saturating_mul(2).min(by_rate).saturating_add(FREE_ARCHIVE);
        let mut unpacked = Vec::new();
        for (at, layer) in found.layers.iter().enumerate() {
            let transfer = self.executor.transfer().within(left);
            transfer.unpack_at(&found.layers, at, Some(task)).await?;
            let index = self.executor.store().own_index(&layer.diff_id)?;
            left = left.saturating_sub(index.archive_size());
            unpacked.push(layer.diff_id);
        }
        Ok(unpacked)
    }
}

/// Bytes of archives that a cache mount may have whatever its size: headers of small files.
const FREE_ARCHIVE: u64 = 64 << 20;
/// And for each byte that was sent: what compilers leave shrinks to a tenth.
const ARCHIVE_OF_A_BYTE: u64 = 200;
