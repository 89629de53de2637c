//! Containers.

mod create;
mod files;
mod found;
mod life;
mod list;
mod logs;
mod streams;

pub(super) use create::{commit, create};
pub(super) use files::{changes, copy_in, copy_out, export, stat_path};
pub(super) use life::{kill, remove, rename, resize, restart, start, stop, wait};
pub(super) use list::{inspect, list, prune, top};
pub(super) use logs::logs;
pub(super) use streams::{attach, create_exec, inspect_exec, resize_exec, start_exec};
