//! The ladder of isolations: which rung a `RUN` gets, decided in one place.
//!
//! [`decide`] is a pure function of three things: the [`Privilege`] of this process, a [`Probe`] of the machine and the
//! [`WantedIsolation`]. A rung is probed only when the decision depends on it, because a probe starts a process: so
//! `decide` names the next thing to do, and is asked again with the result. [`Runtime::start`](crate::Runtime::start)
//! is that loop.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::privilege::Privilege;

/// The isolation that the user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WantedIsolation {
    /// The strongest one that works here.
    #[default]
    Auto,
    /// Namespaces, or nothing.
    Namespaces,
    /// A plain folder as the root, or nothing.
    Chroot,
    /// In place of the container that kiln runs in, or nothing.
    InPlace,
    /// No `RUN` at all.
    None,
}

/// The isolation of a command, the strongest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// Namespaces of its own.
    Namespaces {
        /// The reason for plain folders as roots where overlays cannot be used.
        overlays: Result<(), Unavailable>,
    },
    /// A plain folder as its root.
    Chroot(ChrootCapabilities),
    /// In place of the container that kiln itself runs in, whose files are moved aside meanwhile.
    InPlace,
}

impl Isolation {
    /// True if a root can be an overlay; otherwise it is a plain folder, with another one for what is put aside.
    pub fn has_overlays(&self) -> bool {
        matches!(self, Isolation::Namespaces { overlays: Ok(()) })
    }

    /// True if mounts can be made; otherwise their sources are moved into the root, and out again.
    pub fn has_mounts(&self) -> bool {
        matches!(self, Isolation::Namespaces { .. })
    }
}

/// The isolation with the reason that it is not a better one, as builds print it.
impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Isolation::Namespaces { overlays: Ok(()) } => f.write_str("namespaces"),
            Isolation::Namespaces { overlays: Err(_) } => {
                f.write_str("namespaces, on plain folders (no overlay here)")
            }
            Isolation::Chroot(found) => {
                f.write_str("chroot (no unshare, no mount)")?;
                match &found.supervised {
                    Ok(()) => Ok(()),
                    Err(reason) => write!(f, ", without /proc and /sys: {reason}"),
                }
            }
            Isolation::InPlace => {
                f.write_str("in-place (the container's own files are aside meanwhile)")
            }
        }
    }
}

/// The reason that something cannot be used on this machine: the failed step and the kernel's error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(String);

impl Unavailable {
    /// Takes the reason, in words.
    pub fn new(reason: impl Into<String>) -> Unavailable {
        Unavailable(reason.into())
    }
}

/// The machine as far as it has been probed. The default knows nothing.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    /// Namespaces, once they have been tried.
    pub namespaces: Option<Result<NamespaceCapabilities, Unavailable>>,
    /// A plain folder as a root, once it has been tried.
    pub chroot: Option<Result<ChrootCapabilities, Unavailable>>,
    /// The exchange of this container's files, once it has been looked into.
    pub in_place: Option<Result<(), Unavailable>>,
    /// True if a container engine has left its marks: this machine's files are not a person's own.
    pub is_container: bool,
    /// True if the user says that this container is for kiln alone.
    pub container_is_ours: bool,
    /// True if the store keeps its layers in a form that overlayfs cannot mount.
    pub store_without_overlays: bool,
}

/// The result of probing namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceCapabilities {
    /// True if overlays must keep their marks in `user.overlay.*`.
    pub userxattr: bool,
    /// Overlays on the state directory's file system.
    pub overlay: Result<(), Unavailable>,
    /// True if a container gets its own `/proc`; otherwise it sees the host's.
    pub fresh_proc: bool,
    /// True if a container gets its own `/sys`; otherwise it sees the host's, read-only.
    pub fresh_sys: bool,
    /// True if a container can have no network.
    pub own_network: bool,
}

/// The result of probing a plain folder as a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChrootCapabilities {
    /// True if device files can be made and used.
    pub devices: bool,
    /// The supervisor that serves `/proc` and `/sys`.
    pub supervised: Result<(), Unavailable>,
    /// The version of Landlock, 0 without it: the second keeps a command in its folder, the sixth also its signals.
    pub landlock: i64,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start again as root of a user namespace, and decide there: [`crate::reexec_in_userns`].
    ReexecInUserns,
    /// Fill in [`Probe::namespaces`].
    ProbeNamespaces,
    /// Fill in [`Probe::chroot`].
    ProbeChroot,
    /// Fill in [`Probe::in_place`].
    ProbeInPlace,
    /// Run commands.
    Run {
        /// Their isolation.
        isolation: Isolation,
        /// Remarks for the user.
        notes: Vec<Note>,
    },
}

/// A remark about an isolation that is not the best one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Roots are plain folders.
    NoOverlays(Unavailable),
    /// A stronger rung cannot be used.
    Missing(MissingRung),
    /// Commands see no `/proc` and `/sys`.
    Unsupervised(Unavailable),
}

/// A rung that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MissingRung {
    /// Namespaces.
    #[error("no namespaces: {0}")]
    Namespaces(Unavailable),
    /// A plain folder as the root.
    #[error("no chroot: {0}")]
    Chroot(Unavailable),
    /// In place of this container.
    #[error("no in-place: {0}")]
    InPlace(Unavailable),
}

/// The reason that no `RUN` is possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LadderError {
    /// The user wants none.
    #[error("no isolation is wanted")]
    NotWanted,
    /// In place was wanted, on what looks like a machine of its own.
    #[error("this does not look like a container, and `in-place` would move this machine's files")]
    NotAContainer,
    /// The process has none of the rights that any rung needs.
    #[error("{0}")]
    Unprivileged(Unavailable),
    /// Each rung that was wanted lacks something.
    #[error("{}", .0.iter().map(MissingRung::to_string).collect::<Vec<_>>().join("; "))]
    NoRung(Vec<MissingRung>),
    /// The process was not started again in a user namespace, which is the first thing to do.
    #[error("this process has not tried to become root of a user namespace")]
    NotReexecuted,
}

/// Decides the next thing to do for the isolation of commands.
///
/// # Errors
/// If no rung that is wanted works here.
pub fn decide(
    privilege: &Privilege,
    probe: &Probe,
    wanted: WantedIsolation,
) -> Result<Decision, LadderError> {
    if gains_from_userns(privilege, wanted) {
        return Ok(Decision::ReexecInUserns);
    }
    if wanted == WantedIsolation::None {
        return Err(LadderError::NotWanted);
    }
    let mut missing = Vec::new();
    match privilege {
        Privilege::User { .. } => return Err(LadderError::Unprivileged(lack(privilege))),
        Privilege::Confined { .. } => missing.push(MissingRung::Namespaces(lack(privilege))),
        Privilege::Root | Privilege::NamespaceRoot { .. } => {
            if matches!(wanted, WantedIsolation::Auto | WantedIsolation::Namespaces) {
                match &probe.namespaces {
                    None => return Ok(Decision::ProbeNamespaces),
                    Some(Ok(found)) => return Ok(run_in_namespaces(found, probe)),
                    Some(Err(reason)) => missing.push(MissingRung::Namespaces(reason.clone())),
                }
            }
        }
    }
    if matches!(wanted, WantedIsolation::Auto | WantedIsolation::Chroot) {
        match &probe.chroot {
            None => return Ok(Decision::ProbeChroot),
            Some(Ok(found)) => return Ok(run_in_folder(found, missing)),
            Some(Err(reason)) => missing.push(MissingRung::Chroot(reason.clone())),
        }
    }
    // Never by default: it moves all files of the machine, which may be a person's own.
    if wanted == WantedIsolation::InPlace
        || wanted == WantedIsolation::Auto && probe.container_is_ours
    {
        if !probe.is_container && !probe.container_is_ours {
            return Err(LadderError::NotAContainer);
        }
        match &probe.in_place {
            None => return Ok(Decision::ProbeInPlace),
            Some(Ok(())) => {
                let notes = missing.into_iter().map(Note::Missing).collect();
                return Ok(Decision::Run { isolation: Isolation::InPlace, notes });
            }
            Some(Err(reason)) => missing.push(MissingRung::InPlace(reason.clone())),
        }
    }
    Err(LadderError::NoRung(missing))
}

/// True if a user namespace has not been tried and would give this process rights. A container's root user that wants
/// a rung without mounts has all the rights for it, and more users than in a namespace.
fn gains_from_userns(privilege: &Privilege, wanted: WantedIsolation) -> bool {
    match privilege {
        Privilege::User { refused: None } => true,
        Privilege::Confined { refused: None } => {
            !matches!(wanted, WantedIsolation::Chroot | WantedIsolation::InPlace)
        }
        _ => false,
    }
}

/// The reason that this process cannot mount.
fn lack(privilege: &Privilege) -> Unavailable {
    match privilege {
        Privilege::Confined { refused: Some(error) } | Privilege::User { refused: Some(error) } => {
            Unavailable::new(error.to_string())
        }
        Privilege::User { refused: None } => Unavailable::new("not root, or without CAP_SYS_ADMIN"),
        _ => Unavailable::new("without CAP_SYS_ADMIN"),
    }
}

fn run_in_namespaces(found: &NamespaceCapabilities, probe: &Probe) -> Decision {
    let mut overlays = found.overlay.clone();
    if probe.store_without_overlays && overlays.is_ok() {
        overlays = Err(Unavailable::new("kiln's root was made without overlays"));
    }
    let notes = overlays.as_ref().err().cloned().map(Note::NoOverlays).into_iter().collect();
    Decision::Run { isolation: Isolation::Namespaces { overlays }, notes }
}

fn run_in_folder(found: &ChrootCapabilities, missing: Vec<MissingRung>) -> Decision {
    let mut notes: Vec<Note> = missing.into_iter().map(Note::Missing).collect();
    notes.extend(found.supervised.as_ref().err().cloned().map(Note::Unsupervised));
    Decision::Run { isolation: Isolation::Chroot(found.clone()), notes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id_mapping::IdMapping;
    use crate::privilege::UsernsError;

    const ALL: [WantedIsolation; 5] = [
        WantedIsolation::Auto,
        WantedIsolation::Namespaces,
        WantedIsolation::Chroot,
        WantedIsolation::InPlace,
        WantedIsolation::None,
    ];

    fn privileges() -> [(&'static str, Privilege); 6] {
        let ids = IdMapping { uids: Vec::new(), gids: Vec::new() };
        let refused = Some(UsernsError::Threads);
        [
            ("root", Privilege::Root),
            ("namespace root", Privilege::NamespaceRoot { ids }),
            ("confined", Privilege::Confined { refused: refused.clone() }),
            ("user", Privilege::User { refused }),
            ("confined, untried", Privilege::Confined { refused: None }),
            ("user, untried", Privilege::User { refused: None }),
        ]
    }

    /// A machine on which the named rungs work: `n`amespaces, `c`hroot, in `p`lace; `m`ine and `b`oxed are the
    /// container's.
    fn machine(works: &str) -> Probe {
        let no = || Unavailable::new("no");
        let namespaces = NamespaceCapabilities {
            userxattr: false,
            overlay: Ok(()),
            fresh_proc: true,
            fresh_sys: true,
            own_network: true,
        };
        let chroot = ChrootCapabilities { devices: true, supervised: Ok(()), landlock: 0 };
        Probe {
            namespaces: Some(if works.contains('n') { Ok(namespaces) } else { Err(no()) }),
            chroot: Some(if works.contains('c') { Ok(chroot) } else { Err(no()) }),
            in_place: Some(if works.contains('p') { Ok(()) } else { Err(no()) }),
            is_container: works.contains('b'),
            container_is_ours: works.contains('m'),
            store_without_overlays: false,
        }
    }

    fn outcome(privilege: &Privilege, probe: &Probe, wanted: WantedIsolation) -> &'static str {
        match decide(privilege, probe, wanted) {
            Ok(Decision::ReexecInUserns) => "again",
            Ok(Decision::Run { isolation, .. }) => match isolation {
                Isolation::Namespaces { .. } => "namespaces",
                Isolation::Chroot(_) => "chroot",
                Isolation::InPlace => "in place",
            },
            Ok(_) => "probe",
            Err(LadderError::NotWanted) => "not wanted",
            Err(LadderError::NotAContainer) => "no container",
            Err(LadderError::Unprivileged(_)) => "unprivileged",
            Err(LadderError::NoRung(_) | LadderError::NotReexecuted) => "-",
        }
    }

    /// Each row: the machine, then the outcomes for [`ALL`].
    type Table = [(&'static str, [&'static str; 5])];

    const WITH_MOUNTS: &Table = &[
        ("ncp", ["namespaces", "namespaces", "chroot", "no container", "not wanted"]),
        ("ncpb", ["namespaces", "namespaces", "chroot", "in place", "not wanted"]),
        ("ncpm", ["namespaces", "namespaces", "chroot", "in place", "not wanted"]),
        ("nm", ["namespaces", "namespaces", "-", "-", "not wanted"]),
        ("cp", ["chroot", "-", "chroot", "no container", "not wanted"]),
        ("cpm", ["chroot", "-", "chroot", "in place", "not wanted"]),
        ("p", ["-", "-", "-", "no container", "not wanted"]),
        ("pb", ["-", "-", "-", "in place", "not wanted"]),
        ("pm", ["in place", "-", "-", "in place", "not wanted"]),
        ("bm", ["-", "-", "-", "-", "not wanted"]),
    ];

    const CONFINED: &Table = &[
        ("ncp", ["chroot", "-", "chroot", "no container", "not wanted"]),
        ("ncpb", ["chroot", "-", "chroot", "in place", "not wanted"]),
        ("ncpm", ["chroot", "-", "chroot", "in place", "not wanted"]),
        ("nm", ["-", "-", "-", "-", "not wanted"]),
        ("pb", ["-", "-", "-", "in place", "not wanted"]),
        ("pm", ["in place", "-", "-", "in place", "not wanted"]),
    ];

    const UNPRIVILEGED: &Table = &[(
        "ncpbm",
        ["unprivileged", "unprivileged", "unprivileged", "unprivileged", "not wanted"],
    )];

    #[test]
    fn every_privilege_machine_and_wish() {
        for (name, privilege) in privileges() {
            let table: &Table = match name {
                "root" | "namespace root" => WITH_MOUNTS,
                "confined" => CONFINED,
                "user" => UNPRIVILEGED,
                "user, untried" => &[("ncpbm", ["again"; 5])],
                _ => &[("ncpbm", ["again", "again", "chroot", "in place", "again"])],
            };
            for (works, expected) in table {
                let found = ALL.map(|wanted| outcome(&privilege, &machine(works), wanted));
                assert_eq!(&found, expected, "{name} on {works}");
            }
        }
    }

    #[test]
    fn a_rung_is_probed_only_when_the_one_above_does_not_work() {
        let mut probe = Probe { container_is_ours: true, ..Probe::default() };
        let next = |probe: &Probe| decide(&Privilege::Root, probe, WantedIsolation::Auto).unwrap();
        assert_eq!(next(&probe), Decision::ProbeNamespaces);
        probe.namespaces = machine("").namespaces;
        assert_eq!(next(&probe), Decision::ProbeChroot);
        probe.chroot = machine("").chroot;
        assert_eq!(next(&probe), Decision::ProbeInPlace);
        probe.in_place = machine("p").in_place;
        let Decision::Run { isolation, notes } = next(&probe) else { panic!() };
        assert_eq!((isolation, notes.len()), (Isolation::InPlace, 2));
    }

    #[test]
    fn a_store_without_overlays_is_used_without_them() {
        let probe = Probe { store_without_overlays: true, ..machine("n") };
        let decision = decide(&Privilege::Root, &probe, WantedIsolation::Auto).unwrap();
        let Decision::Run { isolation, notes } = decision else { panic!() };
        assert!(isolation.has_mounts() && !isolation.has_overlays());
        assert!(matches!(notes[..], [Note::NoOverlays(_)]));
    }

    #[test]
    fn errors_name_each_rung() {
        let confined = Privilege::Confined { refused: Some(UsernsError::Threads) };
        let error = decide(&confined, &machine(""), WantedIsolation::Auto).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no namespaces: a user namespace can only be entered before there are threads; no chroot: no"
        );
    }
}
