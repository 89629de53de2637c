//! Sockets that systemd passes (sd_listen_fds(3)).

use std::os::fd::OwnedFd;

use runtime::Privilege;

use super::ServeError;
use crate::settings::Environment;

/// The most sockets that are taken.
const MOST: usize = 64;

/// The sockets that this process was started with; none if they are for another one.
///
/// # Errors
/// If a variable is wrong, or a descriptor is not open.
pub(super) fn sockets(
    environment: &Environment,
    privilege: &Privilege,
) -> Result<Vec<OwnedFd>, ServeError> {
    let own = rustix::process::getpid();
    let parent = rustix::process::getppid();
    let number = |name: &str| environment.get(name).and_then(|text| text.parse::<i32>().ok());
    let wrong = |reason: &str| ServeError::Inherited(reason.to_owned());
    let (Some(count), Some(pid)) = (number("LISTEN_FDS"), number("LISTEN_PID")) else {
        return Ok(Vec::new());
    };
    // In a user namespace kiln is a child of the process that was started.
    let is_for_parent = matches!(privilege, Privilege::NamespaceRoot { .. })
        && parent.is_some_and(|parent| parent.as_raw_nonzero().get() == pid);
    if own.as_raw_nonzero().get() != pid && !is_for_parent {
        return Ok(Vec::new());
    }
    let count = usize::try_from(count).ok().filter(|count| *count <= MOST);
    let count = count.ok_or_else(|| wrong("it is no number of sockets"))?;
    runtime::take_descriptors(count).map_err(|error| wrong(&error.to_string()))
}
