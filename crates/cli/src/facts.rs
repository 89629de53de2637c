//! Facts about kiln and this machine, as docker's `version` and `info` have them.

use serde_json::{Value, json};

use crate::commands::version::COMMIT;
use crate::settings::Settings;

/// The version of docker whose command line and API these are, followed by kiln's own.
pub const VERSION: &str = concat!("28.2.2+kiln-", env!("CARGO_PKG_VERSION"));
/// The version of BuildKit whose results these builds have.
pub const BUILDKIT: &str = "v0.31.0";

/// The commit that kiln was built from.
pub fn commit() -> &'static str {
    COMMIT.unwrap_or("kiln")
}

/// The output of `buildkitd --version`: four words, of which clients read the third.
pub fn buildkitd_version() -> String {
    format!("buildkitd github.com/moby/buildkit {BUILDKIT} kiln\n")
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The versions, without that of the API.
pub fn version() -> Value {
    let platform = oci::Platform::host();
    json!({
        "Version": VERSION, "GitCommit": commit(), "Os": platform.os,
        "Arch": platform.architecture, "Experimental": false, "BuildTime": "", "GoVersion": "",
        "KernelVersion": kernel(),
        "Platform": { "Name": concat!("kiln ", env!("CARGO_PKG_VERSION")) },
    })
}

/// The machine, and a root with so many images.
pub fn info(settings: &Settings, images: usize) -> Value {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let system = rustix::system::sysinfo();
    let memory = system.totalram.saturating_mul(u64::from(system.mem_unit));
    let uname = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let (machine, host) = (text(uname.machine()), text(uname.nodename()));
    let insecure: Vec<&String> = settings.insecure_registries.iter().collect();
    json!({
        "ID": "kiln", "Name": host, "ServerVersion": VERSION, "Driver": "kiln", "DriverStatus": [],
        "LoggingDriver": "json-file",
        "Containers": 0, "ContainersRunning": 0, "ContainersPaused": 0, "ContainersStopped": 0,
        "Images": images, "OSType": "linux", "OperatingSystem": "kiln", "Architecture": machine,
        "KernelVersion": kernel(), "NCPU": processors, "MemTotal": memory,
        "DockerRootDir": settings.root, "IndexServerAddress": "https://index.docker.io/v1/",
        "Debug": false, "ExperimentalBuild": false, "LiveRestoreEnabled": false, "Labels": [],
        "SecurityOptions": [], "Warnings": [], "CgroupDriver": "none", "CgroupVersion": "2",
        "DefaultRuntime": "kiln", "Plugins": {}, "Swarm": { "LocalNodeState": "inactive" },
        "RegistryConfig": { "InsecureRegistryCIDRs": insecure, "Mirrors": [] },
    })
}
