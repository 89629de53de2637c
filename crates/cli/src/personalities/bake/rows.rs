//! The flags of `docker buildx bake`.

use crate::personalities::flags::{Fate, Row};

/// The flags of `bake`.
pub const BAKE: &[Row] = &[
    Row::value(
        "file",
        "docker-bake.hcl",
        Fate::Honoured(
            "HCL, JSON or compose files; `-` is standard input; those from elsewhere are refused",
        ),
    )
    .short('f'),
    Row::value("set", "*.tags=app", Fate::Honoured("`TARGET.KEY=VALUE`, `+=` adds to a list")),
    Row::value("var", "TAG=1", Fate::Honoured("a variable")),
    Row::switch("print", Fate::Honoured("prints the targets as JSON, and builds nothing")),
    Row::value(
        "list",
        "targets",
        Fate::Honoured("lists targets or variables; `type=…,format=json`"),
    ),
    Row::switch("push", Fate::Honoured("pushes each image")),
    Row::switch(
        "load",
        Fate::Honoured("keeps each image in kiln's root, which every build does anyway"),
    ),
    Row::switch("no-cache", Fate::Honoured("runs every step")),
    Row::switch("pull", Fate::Honoured("asks registries for newer bases")),
    Row::value(
        "provenance",
        "false",
        Fate::Honoured("as `kiln build --provenance`, for each target"),
    ),
    Row::value("sbom", "false", Fate::Honoured("as `kiln build --sbom`, for each target")),
    Row::value("call", "build", Fate::Honoured("a question about each target instead of a build")),
    Row::switch("check", Fate::Honoured("is short for `--call=check`")),
    Row::value(
        "allow",
        "network.host",
        Fate::Honoured("what Dockerfiles may ask for; `fs…` and `ssh` are allowed anyway"),
    ),
    Row::value(
        "metadata-file",
        "m.json",
        Fate::Honoured("digests and names of each target's result, as JSON"),
    ),
    Row::value("progress", "plain", Fate::Honoured("as `kiln build --progress`")),
    Row::value("builder", "mine", Fate::Accepted("builds run in this process, whichever builder")),
    Row::switch("debug", Fate::Accepted("give it before `buildx`")).short('D'),
    Row::value(
        "policy",
        "disabled=true",
        Fate::Honoured(
            "as `kiln build --policy`, for each target: a build with a policy beside its Dockerfile is refused, but with `disabled=true`; `filename` and `reset` belong in the definition",
        ),
    ),
];
