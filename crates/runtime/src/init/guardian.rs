//! A second process beside the init process, where no process namespace ends with it: it ends what the command has left
//! and puts the container's files back if the init process is killed, and with kiln, too.

use super::processes::Children;
use crate::in_place;
use crate::ladder::Isolation;
use crate::sys::{self, Forked};
use crate::wire::{RunOrders, SetupFailure, StepContext};

/// Leaves the caller's process behind as the guardian; its child goes on as the init process.
///
/// Everything is given up here but the waiting: the output and the line to kiln end with the child.
pub fn stand_behind(run: &RunOrders) -> Result<(), SetupFailure> {
    sys::hide_from_others();
    // Before the fork: whatever the child leaves comes here.
    let mut children = Children::adopt()?;
    match sys::fork(None).step(|| "fork the init process".into())? {
        Forked::Child => Ok(()),
        Forked::Parent(pid) => {
            // All of it stays open in the child.
            sys::close_inherited();
            let code = guard(run, pid, &mut children);
            std::process::exit(code);
        }
    }
}

/// Waits for the init process, and does what it could not.
fn guard(run: &RunOrders, pid: i32, children: &mut Children) -> i32 {
    // A guard that signals can end is better than none.
    let _ = sys::block_signals();
    let status = children.wait_for(pid).ok().flatten();
    children.end_all();
    if run.isolation == Isolation::InPlace {
        // The next kiln does it where this one cannot.
        let _ = in_place::recover(&run.in_place);
    }
    i32::from(status != Some(0))
}
