//! Endpoints of the engine itself.

use super::endpoint::{Action, Endpoint, honoured, no_effect, run};

pub(super) const SYSTEM: &[Endpoint] = &[
    run("HEAD", "/_ping", Action::Ping, "says that the engine is there, and its versions", &[]),
    run("GET", "/_ping", Action::Ping, "says that the engine is there, and its versions", &[]),
    run("GET", "/version", Action::Version, "the versions of kiln and of the API", &[]),
    run("GET", "/info", Action::Info, "facts about the machine and kiln's root", &[]),
    run(
        "GET",
        "/events",
        Action::Events,
        "what happens to images and containers",
        &[
            honoured(
                "since",
                "begins at this time, in seconds since 1970: the last 256 events are remembered",
            ),
            honoured("until", "ends at this time, in seconds since 1970"),
            honoured("filters", "`type`, `event`, `image`, `container` and `label`"),
        ],
    ),
    run(
        "POST",
        "/auth",
        Action::Auth,
        "checks credentials with their registry; nothing is kept",
        &[],
    ),
    run(
        "GET",
        "/system/df",
        Action::DiskUsage,
        "what takes how much disk",
        &[no_effect("type", "all types are listed"), no_effect("verbose", "everything is listed")],
    ),
];
