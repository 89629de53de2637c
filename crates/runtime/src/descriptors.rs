//! Descriptors that this process was started with.

use std::fs;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first descriptor that is passed on purpose (sd_listen_fds(3)).
const FIRST: i32 = 3;

/// Takes the first `count` descriptors after standard error, once in the life of this process. Programs that it
/// starts do not get them.
///
/// # Errors
/// If one of them is not open, or they were taken before.
pub fn take_descriptors(count: usize) -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::Error::other("the descriptors were taken before"));
    }
    let count = i32::try_from(count).map_err(io::Error::other)?;
    let numbers = FIRST..FIRST.saturating_add(count);
    for number in numbers.clone() {
        // Not following the link: it can name a socket, which is no path.
        fs::symlink_metadata(format!("/proc/self/fd/{number}"))?;
    }
    let take = |number| {
        // SAFETY: the descriptor is open, as was just seen, and was opened by the parent process: no value
        // here owns it. It is taken once.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
        Ok(descriptor)
    };
    numbers.map(take).collect()
}
