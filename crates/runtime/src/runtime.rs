//! The runtime of a machine: its folders, its isolation, and the probes for that.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, RwLock};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};

use crate::cgroup::DeviceGuard;
use crate::error::Error;
use crate::ladder::{
    self, ChrootCapabilities, Decision, Isolation, LadderError, NamespaceCapabilities, Note, Probe,
    Unavailable, WantedIsolation,
};
use crate::privilege::{self, Privilege};
use crate::sys;
use crate::wire::{InitReport, Orders, SetupFailure};

/// The folders and files of a [`Runtime`].
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// The binary that calls [`crate::init_if_asked`]; for kiln itself `/proc/self/exe`.
    pub init_exe: PathBuf,
    /// A directory for this runtime's use, made if it is missing; best on the file system of the layers. Runtimes of
    /// several processes may share it.
    pub state_dir: PathBuf,
    /// Files and folders that a container in place leaves where they are: kiln's own, besides what is mounted.
    pub kept: Vec<PathBuf>,
}

/// A hold on opens of files of containers' roots, by which their contents are written when they are opened.
#[derive(Debug)]
pub struct OpenHold {
    /// A descriptor that init processes keep until they end: without one, opens that wait are let go.
    pub kept: OwnedFd,
    /// Locked for reading while a file is open for writing; a process is started with the lock for writing, because the
    /// child has all descriptors until it executes its program, and a file that is open for writing cannot be executed.
    pub writing: Arc<RwLock<()>>,
}

/// Runs containers.
#[derive(Debug)]
pub struct Runtime {
    /// The init binary, opened: replacing or removing it during a build does no harm.
    pub(crate) init: OwnedFd,
    pub(crate) scratch: PathBuf,
    pub(crate) empty: PathBuf,
    pub(crate) stubs: PathBuf,
    probe: PathBuf,
    pub(crate) guard: Option<DeviceGuard>,
    pub(crate) isolation: Isolation,
    /// kiln's own files, which a container in place leaves alone.
    pub(crate) kept: Vec<PathBuf>,
    /// The folder in which a container in place puts this one's files.
    pub(crate) in_place: PathBuf,
    /// The caller's hold on opens of files.
    pub(crate) opens_held: OnceLock<OpenHold>,
    /// The result of the probe of opens.
    opens: OnceLock<Result<(), Unavailable>>,
    /// Held by a container in place: this container has one root.
    pub(crate) place: tokio::sync::Mutex<()>,
}

impl Runtime {
    /// Opens the binary and makes the state directory. Blocks for some system calls.
    pub fn new(options: RuntimeOptions) -> Result<Runtime, Error> {
        let init = open(&options.init_exe, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::Spawn { source: errno.into() })?;
        let directory = |name: &str| {
            let path = options.state_dir.join(name);
            fs::create_dir_all(&path)
                .and_then(|()| fs::canonicalize(&path))
                .map_err(|source| Error::StateDir { path, source })
        };
        let in_place = directory("in-place")?;
        // Before anything else: a killed run may have left this container without its files.
        crate::in_place::recover(&in_place)?;
        Ok(Runtime {
            init,
            scratch: directory("scratch")?,
            empty: directory("empty")?,
            stubs: usual_mount_points(directory("mount-points")?)?,
            probe: directory("probe")?,
            guard: DeviceGuard::new(),
            isolation: Isolation::Namespaces { overlays: Ok(()) },
            kept: options.kept,
            in_place,
            opens_held: OnceLock::new(),
            opens: OnceLock::new(),
            place: tokio::sync::Mutex::new(()),
        })
    }

    /// Makes the runtime with the isolation that [`ladder::decide`] arrives at, probing the machine as far as that takes.
    /// `probe` says what the caller knows of the machine already.
    ///
    /// # Errors
    /// [`Error::Ladder`] if no wanted isolation works here.
    pub fn start(
        options: RuntimeOptions,
        privilege: &Privilege,
        mut probe: Probe,
        wanted: WantedIsolation,
    ) -> Result<(Runtime, Vec<Note>), Error> {
        // First without a runtime: where nothing is wanted or possible, no folder is made for it.
        ladder::decide(privilege, &probe, wanted)?;
        let runtime = Runtime::new(options)?;
        loop {
            match ladder::decide(privilege, &probe, wanted)? {
                Decision::ReexecInUserns => return Err(LadderError::NotReexecuted.into()),
                Decision::ProbeNamespaces => probe.namespaces = Some(runtime.probe_namespaces()?),
                Decision::ProbeChroot => probe.chroot = Some(runtime.probe_chroot()?),
                Decision::ProbeInPlace => probe.in_place = Some(runtime.probe_in_place()),
                Decision::Run { isolation, notes } => {
                    return Ok((runtime.with_isolation(isolation), notes));
                }
            }
        }
    }

    /// Sets the isolation of the containers; without it they run in namespaces, on overlays.
    #[must_use]
    pub fn with_isolation(mut self, isolation: Isolation) -> Runtime {
        if !isolation.has_mounts() {
            // Their root user could look into this process otherwise.
            sys::hide_from_others();
        }
        self.isolation = isolation;
        self
    }

    /// The isolation of the containers.
    pub fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    /// True if a root can be an overlay; otherwise it is a plain folder, with another one for what is put aside.
    pub fn has_overlays(&self) -> bool {
        self.isolation.has_overlays()
    }

    /// True if mounts can be made; otherwise their sources are moved into the root, and out again.
    pub fn has_mounts(&self) -> bool {
        self.isolation.has_mounts()
    }

    /// Tries in a process of its own what a container in namespaces needs, on the state directory's file system. Blocks
    /// for some milliseconds.
    pub fn probe_namespaces(&self) -> Result<Result<NamespaceCapabilities, Unavailable>, Error> {
        let report = self.ask_probe(&["lower/folder", "upper", "work"], |directory| {
            Orders::Probe { directory, scratch: self.scratch.clone() }
        })?;
        match report {
            Ok(InitReport::Probed(found)) => Ok(Ok(found)),
            Ok(_) => Err(Error::InitDied),
            Err(failure) => Ok(Err(failure.reason())),
        }
    }

    /// Tries, once, whether each open of a file of an overlay is reported to who watches the folder in which the file is:
    /// when it is read, executed, or copied because its mode changes (Linux 6.7). Blocks for some milliseconds.
    ///
    /// # Errors
    /// The reason why files cannot be filled when they are opened.
    pub fn reports_opens(&self) -> Result<(), Unavailable> {
        if !self.has_overlays() {
            return Err(Unavailable::new("its root is a plain folder"));
        }
        let probe = || {
            let folders = &["lower/watched", "upper", "work"];
            let report = self.ask_probe(folders, |directory| Orders::ProbeOpens {
                directory,
                scratch: self.scratch.clone(),
            });
            match report {
                Ok(Ok(InitReport::ProbedOpens(found))) => found,
                Ok(Ok(_)) => Err(Unavailable::new("the probe ended without a result")),
                Ok(Err(failure)) => Err(failure.reason()),
                Err(error) => Err(Unavailable::new(error.to_string())),
            }
        };
        self.opens.get_or_init(probe).clone()
    }

    /// Has all containers from now on started so that the caller can fill files when they are opened. Only the first call
    /// has an effect.
    pub fn hold_opens(&self, hold: OpenHold) {
        let _ = self.opens_held.set(hold);
    }

    /// Tries what a container in a plain folder needs. As [`Runtime::probe_namespaces`].
    pub fn probe_chroot(&self) -> Result<Result<ChrootCapabilities, Unavailable>, Error> {
        match self.ask_probe(&[], Orders::ProbeChroot)? {
            Ok(InitReport::ProbedChroot(found)) => Ok(Ok(found)),
            Ok(_) => Err(Error::InitDied),
            Err(failure) => Ok(Err(failure.reason())),
        }
    }

    /// Looks whether this container's files can be exchanged for another's: that takes root's rights on files and users,
    /// and a root that is on the same mount as the state directory.
    pub fn probe_in_place(&self) -> Result<(), Unavailable> {
        if !privilege::has_file_rights() {
            return Err(Unavailable::new("not root, or without its rights on files and users"));
        }
        match crate::in_place::is_on_root(&self.in_place) {
            Ok(true) => Ok(()),
            _ => Err(Unavailable::new(
                "kiln's root is on a volume, and not on the container's own disk (`--root`)",
            )),
        }
    }

    /// Has something tried in a folder of its own, with these folders in it.
    fn ask_probe(
        &self,
        folders: &[&str],
        orders: impl FnOnce(PathBuf) -> Orders,
    ) -> Result<Result<InitReport, SetupFailure>, Error> {
        let directory = self.probe.join("turn");
        let failed = |source| Error::StateDir { path: directory.clone(), source };
        // One name for all, by turns: what a killed process has left is the next one's to remove.
        let turn = fs::File::open(&self.probe).map_err(failed)?;
        flock(&turn, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).map_err(failed)?;
        for name in folders {
            fs::create_dir_all(directory.join(name)).map_err(failed)?;
        }
        let result = self.ask(&orders(directory.clone()));
        let _ = fs::remove_dir_all(&directory);
        result
    }
}

/// Fills a layer with what every container needs mount points for.
fn usual_mount_points(layer: PathBuf) -> Result<PathBuf, Error> {
    let fill = || {
        for folder in ["proc", "dev", "sys", "etc"] {
            fs::create_dir_all(layer.join(folder))?;
            fs::set_permissions(layer.join(folder), fs::Permissions::from_mode(0o755))?;
        }
        for file in ["etc/hosts", "etc/resolv.conf"] {
            fs::File::options().create(true).append(true).mode(0o644).open(layer.join(file))?;
        }
        Ok(())
    };
    match fill() {
        Ok(()) => Ok(layer),
        Err(source) => Err(Error::StateDir { path: layer, source }),
    }
}
