//! Files of the kernel that a container has, and those that it must not see.

/// The character devices of every container: name, major and minor number.
pub const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("random", 1, 8),
    ("full", 1, 7),
    ("tty", 5, 0),
    ("zero", 1, 5),
    ("urandom", 1, 9),
];

/// The links of `/dev`.
pub const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Kernel files that say too much, in OCI's default order.
pub const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/proc/scsi",
];

/// True for a name in `/proc` that no container sees.
pub fn is_masked(name_in_proc: &[u8]) -> bool {
    MASKED.iter().any(|masked| {
        masked.strip_prefix("/proc/").is_some_and(|name| name.as_bytes() == name_in_proc)
    })
}
