//! The options for opening a store.

use layer::tar::Limits;

/// The rights of the process over files, and the attributes with which overlay marks are made. A
/// store is made for one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Privileges {
    /// Root with `CAP_SYS_ADMIN`: marks are `trusted.overlay.*`.
    Root,
    /// Root of a user namespace: marks are `user.overlay.*`; devices are in the index only.
    UserNamespace,
    /// Root that may change owners and make devices but not mount, as in containers. Deleted files
    /// and opaque folders are in the index only.
    Chroot,
    /// A plain user: folders hold the contents, readable; everything else is in the index only.
    None,
}

/// The treatment of files whose owner does not exist in the user namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnmappedOwners {
    /// An error that names the file.
    #[default]
    Refuse,
    /// They belong to the user that unpacks them; the index keeps the owner.
    Ignore,
}

/// The options for opening a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// The rights of the process.
    pub privileged: Privileges,
    /// The treatment of owners that do not exist here.
    pub unmapped_owners: UnmappedOwners,
    /// The limits for archives from elsewhere: a layer, an archive that ADD unpacks, a context.
    pub limits: Limits,
}

impl OpenOptions {
    /// Options with [`UnmappedOwners::Refuse`] and [`Limits::DEFAULT`].
    pub const fn new(privileged: Privileges) -> Self {
        Self { privileged, unmapped_owners: UnmappedOwners::Refuse, limits: Limits::DEFAULT }
    }
}

impl Privileges {
    /// The name by which a root remembers them.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::UserNamespace => "user-namespace",
            Self::Chroot => "chroot",
            Self::None => "plain-user",
        }
    }

    /// The prefix of overlay's attributes, if marks can be made.
    pub(crate) const fn overlay_prefix(self) -> Option<&'static str> {
        match self {
            Self::Root => Some("trusted.overlay."),
            Self::UserNamespace => Some("user.overlay."),
            Self::Chroot | Self::None => None,
        }
    }
}
