//! The processes of a container, as `ps` shows them (`docker top`).

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::engine::ProcessRow;

/// Clock ticks of a second in `/proc` (`USER_HZ`, the same on all of Linux).
const TICKS: u64 = 100;

/// The rows of processes, by their IDs; those that have ended are left out.
pub(super) fn rows(pids: &[i32]) -> Vec<ProcessRow> {
    let booted = booted();
    let mut pids = pids.to_vec();
    pids.sort_unstable();
    let mut rows = Vec::new();
    for pid in pids {
        let folder = Path::new("/proc").join(pid.to_string());
        let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
        let Some(row) = row(&stat, booted) else { continue };
        let user = fs::read_to_string(folder.join("status")).ok().and_then(|status| user(&status));
        let words = fs::read(folder.join("cmdline")).unwrap_or_default();
        let command = command(&words).unwrap_or(row.command);
        rows.push(ProcessRow { user: user.unwrap_or_default(), pid, command, ..row });
    }
    rows
}

/// The row of `/proc/PID/stat` (proc_pid_stat(5)), with the program's name alone as its command.
fn row(stat: &str, booted: SystemTime) -> Option<ProcessRow> {
    // The name is in parentheses, and may have some itself.
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    let (parent, terminal) = (number(1)?, number(4)?);
    let (cpu, started) = ((number(11)? + number(12)?) / TICKS, number(19)? / TICKS);
    let started = booted.checked_add(Duration::from_secs(started)).unwrap_or(booted);
    Some(ProcessRow {
        parent: i32::try_from(parent).ok()?,
        started: time_of_day(started),
        terminal: if terminal == 0 { "?".to_owned() } else { "pts".to_owned() },
        cpu_time: format!("{:02}:{:02}:{:02}", cpu / 3600, cpu / 60 % 60, cpu % 60),
        command: format!("[{name}]"),
        ..ProcessRow::default()
    })
}

fn user(status: &str) -> Option<String> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    Some(line.split_whitespace().nth(1)?.to_owned())
}

fn command(words: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(words);
    let text = text.trim_end_matches('\0').replace('\0', " ");
    Some(text).filter(|text| !text.is_empty())
}

fn time_of_day(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60)
}

fn booted() -> SystemTime {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime ")?.parse().ok());
    UNIX_EPOCH + Duration::from_secs(seconds.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_from_proc() {
        let stat = "7 (a (b) c) S 3 7 7 0 -1 4194560 1 2 3 4 6000 250 0 0 20 0 1 0 360000 9 9";
        let row = row(stat, UNIX_EPOCH + Duration::from_secs(60)).unwrap();
        assert_eq!((row.parent, row.terminal.as_str()), (3, "?"));
        assert_eq!((row.cpu_time.as_str(), row.started.as_str()), ("00:01:02", "01:01"));
        assert_eq!(row.command, "[a (b) c]");
        assert_eq!(user("Name:\tx\nUid:\t0\t1000\t0\t0\n").as_deref(), Some("1000"));
        assert_eq!(command(b"sleep\x005\0").as_deref(), Some("sleep 5"));
        assert_eq!(command(b""), None);
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(rows(&[own, i32::MAX]).len(), 1);
    }
}
