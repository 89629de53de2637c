//! Endpoints of what kiln does not have: volumes, swarm, plugins.

use super::endpoint::{Endpoint, Parameter, answer, missing, no_effect, refuse};

const VOLUMES: &str = "there are no volumes: a container can bind a folder of the machine, and \
    `RUN --mount=type=cache` keeps files between builds";
const SWARM: &str = "there is no swarm: kiln builds images and moves them";
const PLUGINS: &str = "there are no plugins: kiln builds images and moves them";
const NO_LIST: &str = "there are none, whatever is asked for";

const ANY_LIST: &[Parameter] = &[
    no_effect("all", NO_LIST),
    no_effect("limit", NO_LIST),
    no_effect("size", NO_LIST),
    no_effect("filters", NO_LIST),
];
const ANY_PRUNE: &[Parameter] = &[no_effect("filters", "there are none to remove")];

pub(super) const ABSENT: &[Endpoint] = &[
    // Volumes.
    answer(
        "GET",
        "/volumes",
        "an empty list: there are no volumes",
        r#"{"Volumes":[],"Warnings":null}"#,
        ANY_LIST,
    ),
    answer(
        "POST",
        "/volumes/prune",
        "removes nothing: there are no volumes",
        r#"{"VolumesDeleted":null,"SpaceReclaimed":0}"#,
        ANY_PRUNE,
    ),
    refuse("POST", "/volumes/create", VOLUMES),
    missing("GET", "/volumes/{id}", "volume"),
    missing("PUT", "/volumes/{id}", "volume"),
    missing("DELETE", "/volumes/{id}", "volume"),
    // Swarm.
    refuse("GET", "/swarm", SWARM),
    refuse("POST", "/swarm/init", SWARM),
    refuse("POST", "/swarm/join", SWARM),
    refuse("POST", "/swarm/leave", SWARM),
    refuse("POST", "/swarm/update", SWARM),
    refuse("GET", "/swarm/unlockkey", SWARM),
    refuse("POST", "/swarm/unlock", SWARM),
    refuse("GET", "/nodes", SWARM),
    refuse("GET", "/nodes/{id}", SWARM),
    refuse("DELETE", "/nodes/{id}", SWARM),
    refuse("POST", "/nodes/{id}/update", SWARM),
    refuse("GET", "/services", SWARM),
    refuse("POST", "/services/create", SWARM),
    refuse("GET", "/services/{id}", SWARM),
    refuse("DELETE", "/services/{id}", SWARM),
    refuse("POST", "/services/{id}/update", SWARM),
    refuse("GET", "/services/{id}/logs", SWARM),
    refuse("GET", "/tasks", SWARM),
    refuse("GET", "/tasks/{id}", SWARM),
    refuse("GET", "/tasks/{id}/logs", SWARM),
    refuse("GET", "/secrets", SWARM),
    refuse("POST", "/secrets/create", SWARM),
    refuse("GET", "/secrets/{id}", SWARM),
    refuse("DELETE", "/secrets/{id}", SWARM),
    refuse("POST", "/secrets/{id}/update", SWARM),
    refuse("GET", "/configs", SWARM),
    refuse("POST", "/configs/create", SWARM),
    refuse("GET", "/configs/{id}", SWARM),
    refuse("DELETE", "/configs/{id}", SWARM),
    refuse("POST", "/configs/{id}/update", SWARM),
    // Plugins.
    answer("GET", "/plugins", "an empty list: there are no plugins", "[]", ANY_LIST),
    refuse("GET", "/plugins/privileges", PLUGINS),
    refuse("POST", "/plugins/pull", PLUGINS),
    refuse("POST", "/plugins/create", PLUGINS),
    missing("GET", "/plugins/{id}/json", "plugin"),
    missing("DELETE", "/plugins/{id}", "plugin"),
    missing("POST", "/plugins/{id}/enable", "plugin"),
    missing("POST", "/plugins/{id}/disable", "plugin"),
    missing("POST", "/plugins/{id}/upgrade", "plugin"),
    missing("POST", "/plugins/{id}/push", "plugin"),
    missing("POST", "/plugins/{id}/set", "plugin"),
];
