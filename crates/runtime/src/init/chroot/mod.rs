//! A command in a plain folder as its root, where neither namespaces nor mounts are allowed: in an ordinary container,
//! as its root user.
//!
//! What mounts do elsewhere is done by moving things into the root and out again ([`place`]); what `/proc` and `/sys`
//! would show is answered call by call ([`supervisor`]). The init process stays outside, is the parent of all that the
//! command leaves behind, ends it, and puts everything back, also when kiln itself is gone.

mod children;
mod folders;
mod place;
mod probe;
mod supervisor;

use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, openat};
use rustix::io::Errno;

pub use self::children::Children;
use self::place::Placer;
pub use self::probe::probe;
use self::supervisor::{Kernels, Links, Mounted, Shown, Supervisor};
use super::filter::{self, Apart};
use super::mounts::clean;
use super::stage::{Prepared, become_and_execute, die_with_parent, prepare};
use super::walk::{Missing, Place, Root, file_type};
use super::{Never, Outside, devices, open_folder, open_source, privileges};
use crate::container::{Container, Mount, MountKind, Network, RootSource};
use crate::seccomp::{self, Rules};
use crate::sys::{self, Forked, SignalFd};
use crate::wire::{Failure, FailureKind, Report, RunOrders, Step, tell};

/// Runs a container to its end.
pub fn run(
    orders: &RunOrders,
    aside: &Path,
    supervised: bool,
    outside: Outside<'_>,
) -> Result<Report, Failure> {
    let Outside { control, signals, null } = outside;
    let container = &orders.container;
    refuse(container)?;
    sys::hide_from_others();
    rustix::process::umask(Mode::empty());
    let mut children = Children::adopt()?;
    let (directory, mut root) = open_directory(container)?;
    let prepared = prepare(container, &mut root)?;

    let mut placer = Placer::new(aside)?;
    let filled = Filler { placer: &mut placer, root: &mut root, orders, supervised }.fill();
    tell(control, &Report::Stubs(root.take_stubs()));
    let kernels = filled?;
    let mut links = Links::default();
    if supervised {
        for (name, target) in devices::LINKS {
            let target = if name == "ptmx" { "/dev/pts/ptmx" } else { target };
            links.learn(format!("/dev/{name}").as_bytes(), target.as_bytes());
        }
        links.devices = !has_devices(&root);
        folders::find_links(root.top(), &mut links);
    }

    let (ours, its) = UnixStream::pair()
        .map_err(|_| Failure::new(FailureKind::Step, "make a socket", Errno::MFILE))?;
    match sys::fork(None).step(|| "fork the container's first process".into())? {
        Forked::Child => {
            drop(ours);
            signals.restore();
            let Err(failure) =
                become_command(&root, container, prepared, supervised.then_some(its));
            tell(control, &Report::Failed(failure));
            // Nothing of the parent's is to be taken out twice.
            std::process::exit(127);
        }
        Forked::Parent(pid) => {
            drop(its);
            super::let_go_of_output(null)?;
            let mut supervisor = None;
            if supervised && let Ok(Some((_, Some(listener)))) = supervisor::receive_file(&ours) {
                let top = root.top().try_clone();
                let top = top
                    .map_err(|_| Failure::new(FailureKind::Step, "open the root", Errno::MFILE))?;
                let shown = shown(container, pid);
                let made = Supervisor::new(listener, (directory, top), kernels, links, shown);
                supervisor = Some(made.step(|| "begin to answer system calls".into())?);
            }
            let status = watch(pid, control, signals, supervisor.as_mut(), &mut children);
            // Before anything is taken out.
            children.end_all();
            if supervisor.is_some_and(|supervisor| supervisor.has_refused_a_root()) {
                tell(control, &Report::RefusedRoot);
            }
            drop(placer);
            status.map(Report::Exited)
        }
    }
}

/// The folder that is a container's root.
pub fn open_directory(container: &Container) -> Result<(&Path, Root), Failure> {
    let RootSource::Directory(directory) = &container.root else {
        return Err(Failure::plain(
            FailureKind::Refused,
            "a container without mounts needs a plain folder as its root",
        ));
    };
    let root = open_folder(directory)
        .and_then(Root::new)
        .step(|| format!("open the root `{}`", directory.display()))?;
    Ok((directory, root))
}

/// Puts what is to be mounted into a root where the machine's own `/proc`, `/sys` and `/dev` will be.
pub fn fill_wanted(orders: &RunOrders, aside: &Path, root: &mut Root) -> Result<Placer, Failure> {
    let mut placer = Placer::new(aside)?;
    let mut filler = Filler { placer: &mut placer, root, orders, supervised: false };
    let wanted = filler.wanted();
    filler.fill_wanted(&wanted)?;
    Ok(placer)
}

/// What cannot be had without namespaces.
pub fn refuse(container: &Container) -> Result<(), Failure> {
    let no = |text: &str| Err(Failure::plain(FailureKind::Refused, text));
    if container.network == Network::None {
        return no(
            "`--network=none` needs a network namespace, which this machine does not let kiln make",
        );
    }
    Ok(())
}

/// The child: enters the root and becomes the command.
fn become_command(
    root: &Root,
    container: &Container,
    prepared: Prepared,
    listener_to: Option<UnixStream>,
) -> Result<Never, Failure> {
    die_with_parent()?;
    rustix::process::setsid().step(|| "start a session".into())?;
    sys::leave_keyring();
    rustix::process::fchdir(root.top()).step(|| "enter the root".into())?;
    rustix::process::chroot(".").step(|| "make the folder the root".into())?;
    rustix::process::chdir("/").step(|| "enter the root".into())?;
    become_and_execute(container, prepared, || {
        rustix::thread::set_no_new_privs(true).step(|| "forbid new privileges".into())?;
        privileges::give_up_chroot()?;
        // A second wall: nothing outside can be reached by now, and could not be opened either.
        crate::landlock::confine_to(root.top()).step(|| "keep the command in its root".into())?;
        let apart = if listener_to.is_some() { Apart::Supervised } else { Apart::Folder };
        filter::take_calls(apart).step(|| "take system calls from the command".into())?;
        let Some(socket) = listener_to else { return Ok(()) };
        let listener = seccomp::listen(&rules(container))
            .step(|| "have the command's system calls told".into())?;
        supervisor::send_file(&socket, b"+", Some(&listener))
            .step(|| "hand the listener over".into())
    })
}

/// Which of a command's calls are whose.
fn rules(container: &Container) -> Rules {
    let mut told = supervisor::calls();
    if container.mounts.iter().any(is_readonly) {
        told.extend(supervisor::changing_calls());
    }
    Rules { told, told_with: supervisor::tracing_calls(), dismissed: supervisor::syncing_calls() }
}

fn is_readonly(mount: &Mount) -> bool {
    match &mount.kind {
        MountKind::Bind { readonly, .. }
        | MountKind::Overlay { readonly, .. }
        | MountKind::Tmpfs { readonly, .. } => *readonly,
        MountKind::File { .. } => true,
    }
}

/// What the command takes for mounted.
fn shown(container: &Container, first: i32) -> Shown {
    let usual = [
        ("/", "overlay", false),
        ("/proc", "proc", false),
        ("/dev", "tmpfs", false),
        ("/dev/pts", "devpts", false),
        ("/dev/shm", "tmpfs", false),
        ("/dev/mqueue", "mqueue", false),
        ("/sys", "sysfs", true),
    ];
    let usual =
        usual.map(|(target, kind, readonly)| Mounted { target: target.into(), kind, readonly });
    let wanted = container.mounts.iter().map(|mount| Mounted {
        target: clean(&mount.target),
        kind: if let MountKind::Tmpfs { .. } = mount.kind { "tmpfs" } else { "overlay" },
        readonly: is_readonly(mount),
    });
    Shown {
        first,
        hostname: container.hostname.clone(),
        mounted: usual.into_iter().chain(wanted).collect(),
    }
}

/// Whether device files work here.
fn has_devices(root: &Root) -> bool {
    let null = openat(
        root.top(),
        "dev/null",
        OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    );
    null.is_ok_and(|null| file_type(&null) == Ok(rustix::fs::FileType::CharacterDevice))
}

/// Waits for the end of the command, serving it meanwhile, and brings it about when kiln is gone.
pub fn watch(
    pid: i32,
    control: &UnixStream,
    signals: &SignalFd,
    mut supervisor: Option<&mut Supervisor>,
    children: &mut Children,
) -> Result<i32, Failure> {
    loop {
        let mut ready = vec![
            PollFd::new(control, PollFlags::IN | PollFlags::HUP),
            PollFd::new(signals, PollFlags::IN),
        ];
        if let Some(supervisor) = &supervisor {
            ready.push(PollFd::from_borrowed_fd(supervisor.as_fd(), PollFlags::IN));
        }
        match poll(&mut ready, None) {
            Err(Errno::INTR) => continue,
            result => result.step(|| "wait for the container".into())?,
        };
        let ready: Vec<PollFlags> = ready.iter().map(PollFd::revents).collect();
        if !ready[0].is_empty() {
            sys::kill(pid, libc::SIGKILL);
        }
        if let (Some(serving), Some(calls)) = (&mut supervisor, ready.get(2)) {
            let gone = calls.contains(PollFlags::IN) && serving.serve_one().is_err();
            if gone || calls.intersects(PollFlags::HUP | PollFlags::ERR) {
                supervisor = None;
            }
        }
        if !ready[0].is_empty() || !ready[1].is_empty() {
            if !ready[1].is_empty() {
                signals.next().step(|| "wait for the container's end".into())?;
            }
            let ended =
                if ready[0].is_empty() { children.ended(pid) } else { children.wait_for(pid) };
            if let Some(status) = ended.step(|| "wait for the container's end".into())? {
                return Ok(status);
            }
        }
    }
}

/// Puts everything into the root that mounts would put there.
struct Filler<'a> {
    placer: &'a mut Placer,
    root: &'a mut Root,
    orders: &'a RunOrders,
    supervised: bool,
}

impl<'a> Filler<'a> {
    fn wanted(&self) -> Vec<(String, &'a Mount)> {
        let mounts = self.orders.container.mounts.iter();
        mounts.map(|mount| (clean(&mount.target), mount)).collect()
    }

    /// Fills the root; what stands at the kernel's folders, where it is ours.
    fn fill(mut self) -> Result<Kernels, Failure> {
        let wanted = self.wanted();
        let is_wanted = |target: &str| wanted.iter().any(|(wanted, _)| wanted == target);
        let mut kernels = Kernels::default();
        for target in ["/proc", "/dev", "/sys", "/etc/resolv.conf", "/etc/hosts"] {
            if is_wanted(target) {
                continue;
            }
            let name = match target {
                "/proc" => folders::make_proc(self.placer, self.supervised)?,
                "/dev" => folders::make_dev(self.placer)?,
                "/sys" => folders::make_sys(self.placer)?,
                "/etc/resolv.conf" => {
                    self.file(self.orders.resolv_conf.as_bytes(), (0o644, 0, 0))?
                }
                _ => self.file(self.orders.hosts.as_bytes(), (0o644, 0, 0))?,
            };
            if !target.starts_with("/etc") {
                super::mounts::refuse_link(self.root, target)?;
            }
            self.placer.place_own(self.root, target, &name)?;
            let mut find = |path: &str| {
                let place = self.root.find(path, Missing::Fail).step(|| format!("open `{path}`"));
                place.map(|place| Some(place.file))
            };
            match target {
                "/proc" => kernels.proc = find(target)?,
                "/sys" => kernels.sys = find(target)?,
                "/dev" => kernels.pts = find("/dev/pts")?,
                _ => {}
            }
        }
        self.fill_wanted(&wanted)?;
        Ok(kernels)
    }

    fn fill_wanted(&mut self, wanted: &[(String, &Mount)]) -> Result<(), Failure> {
        for (place, (target, mount)) in wanted.iter().enumerate() {
            // The last of several counts.
            if !wanted[place + 1..].iter().any(|(later, _)| later == target) {
                self.place_wanted(target, &mount.kind)?;
            }
        }
        Ok(())
    }

    fn place_wanted(&mut self, target: &str, kind: &MountKind) -> Result<(), Failure> {
        match kind {
            MountKind::Bind { source, subpath, readonly: _ } => {
                let place = find_source(source, subpath)?;
                self.placer.place_other(self.root, target, place)
            }
            MountKind::Tmpfs { .. } => {
                let (_, name) = self.placer.folder(0o1777).step(|| format!("make `{target}`"))?;
                self.placer.place_own(self.root, target, &name)
            }
            MountKind::File { content, mode, uid, gid } => {
                let name = self.file(content.bytes(), (*mode, *uid, *gid))?;
                self.placer.place_own(self.root, target, &name)
            }
            MountKind::Overlay { .. } => Err(Failure::plain(
                FailureKind::Refused,
                format!("`{target}`: layers cannot be mounted here, only folders be moved"),
            )),
        }
    }

    fn file(
        &mut self,
        content: &[u8],
        (mode, uid, gid): (u32, u32, u32),
    ) -> Result<String, Failure> {
        let (fd, name) = self.placer.file().step(|| "make a file to be mounted".into())?;
        fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .and_then(|()| fchmod(&fd, Mode::from_raw_mode(mode & 0o777)))
            .step(|| format!("give a mounted file to {uid}:{gid}"))?;
        std::io::Write::write_all(&mut std::fs::File::from(fd), content)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .step(|| "write a mounted file".into())?;
        Ok(name)
    }
}

/// What is to be moved into the root, with where it is.
fn find_source(source: &Path, subpath: &str) -> Result<Place, Failure> {
    let missing = |path: &str| Failure::plain(FailureKind::MountSource, path);
    let shown = source.to_string_lossy();
    let at_top = subpath.split('/').all(|name| name.is_empty() || name == ".");
    if let (true, Some(parent), Some(name)) = (at_top, source.parent(), source.file_name()) {
        let around = open_folder(parent).map_err(|_| missing(&shown))?;
        // As what it is: a link in its place is not followed.
        let file = open_source(source).map_err(|_| missing(&shown))?;
        return Ok(Place { file, within: Some((around, name.to_owned())) });
    }
    let mut tree = open_source(source).and_then(Root::new).map_err(|_| missing(&shown))?;
    match tree.find(subpath, Missing::Fail) {
        Err(Errno::NOENT | Errno::NOTDIR) => Err(missing(subpath)),
        result => result.step(|| format!("find the mount source `{subpath}`")),
    }
}
