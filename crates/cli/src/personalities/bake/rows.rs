//! The flags of `docker buildx bake`.

use crate::personalities::flags::{Flag, Handling};

/// The flags of `bake`.
pub const BAKE: &[Flag] = &[
    Flag::value(
        "file",
        "docker-bake.hcl",
        Handling::Honoured(
            "HCL, JSON or compose files; `-` is standard input; those from elsewhere are refused",
        ),
    )
    .short('f'),
    Flag::value("set", "*.tags=app", Handling::Honoured("`TARGET.KEY=VALUE`, `+=` adds to a list")),
    Flag::value("var", "TAG=1", Handling::Honoured("a variable")),
    Flag::switch("print", Handling::Honoured("prints the targets as JSON, and builds nothing")),
    Flag::value(
        "list",
        "targets",
        Handling::Honoured("lists targets or variables; `type=…,format=json`"),
    ),
    Flag::switch("push", Handling::Honoured("pushes each image")),
    Flag::switch(
        "load",
        Handling::Honoured("keeps each image in kiln's root, which every build does anyway"),
    ),
    Flag::switch("no-cache", Handling::Honoured("runs every step")),
    Flag::switch("pull", Handling::Honoured("asks registries for newer bases")),
    Flag::value(
        "provenance",
        "false",
        Handling::Honoured("as `kiln build --provenance`, for each target"),
    ),
    Flag::value("sbom", "false", Handling::Honoured("as `kiln build --sbom`, for each target")),
    Flag::value(
        "call",
        "build",
        Handling::Honoured("a question about each target instead of a build"),
    ),
    Flag::switch("check", Handling::Honoured("is short for `--call=check`")),
    Flag::value(
        "allow",
        "network.host",
        Handling::Honoured("what Dockerfiles may ask for; `fs…` and `ssh` are allowed anyway"),
    ),
    Flag::value(
        "metadata-file",
        "m.json",
        Handling::Honoured("digests and names of each target's result, as JSON"),
    ),
    Flag::value("progress", "plain", Handling::Honoured("as `kiln build --progress`")),
    Flag::value(
        "builder",
        "mine",
        Handling::NoEffect("builds run in this process, whichever builder"),
    ),
    Flag::switch("debug", Handling::NoEffect("give it before `buildx`")).short('D'),
    Flag::value(
        "policy",
        "disabled=true",
        Handling::Honoured(
            "as `kiln build --policy`, for each target: a build with a policy beside its Dockerfile is refused, but with `disabled=true`; `filename` and `reset` belong in the definition",
        ),
    ),
];
