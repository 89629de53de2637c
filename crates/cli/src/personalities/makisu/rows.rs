//! The flags of Makisu.

use crate::personalities::flags::{Flag, Handling, Verdict};
use crate::personalities::kaniko::is_outside;

fn blacklist(path: &str) -> Verdict {
    match is_outside(path) {
        true => Verdict::Take,
        false => Verdict::Refuse(
            "what a RUN writes is in its layer: leave the flag out, and remove the path in the same RUN, or keep it out with `RUN --mount=type=tmpfs,target=PATH`",
        ),
    }
}

fn log_output(text: &str) -> Verdict {
    match text {
        "stderr" => Verdict::Take,
        "stdout" => Verdict::Note("progress goes to standard error"),
        _ => Verdict::Refuse("progress goes to standard error: redirect it with `2>FILE`"),
    }
}

const CONFIG: Flag = Flag::value(
    "registry-config",
    "{}",
    Handling::Honoured("a YAML or JSON file, or JSON itself: TLS, basic logins; see below"),
);

/// Flags of every command.
pub const GLOBAL: &[Flag] = &[
    Flag::value(
        "log-level",
        "info",
        Handling::Honoured("error shows no progress; debug says more of failures"),
    ),
    Flag::value(
        "log-output",
        "stderr",
        Handling::Judged("stderr; stdout: accepted with a note; files: refused", log_output),
    ),
    Flag::value(
        "log-fmt",
        "console",
        Handling::Honoured("console: plain; json: one object per event (rawjson)"),
    ),
    Flag::switch(
        "cpu-profile",
        Handling::Refused("there is no profile: `--metadata-file` of `kiln build` has counts"),
    ),
];

/// The flags of `build`.
pub const BUILD: &[Flag] = &[
    Flag::value(
        "file",
        "Dockerfile",
        Handling::Honoured("the Dockerfile, in the context where it is relative"),
    )
    .short('f'),
    Flag::value("tag", "team/app:1", Handling::Honoured("the image's name; needed")).short('t'),
    Flag::value(
        "push",
        "r.example.com",
        Handling::Honoured("registries that the image goes to, under the name of `--tag`"),
    ),
    Flag::value(
        "replica",
        "r.example.com/other:1",
        Handling::Honoured("another whole name, pushed too"),
    ),
    CONFIG,
    Flag::value("dest", "a.tar", Handling::Honoured("an archive for `docker load`")),
    Flag::value("target", "app", Handling::Honoured("the stage to build")),
    Flag::value("build-arg", "A=1", Handling::Honoured("`NAME=VALUE`")),
    Flag::switch(
        "modifyfs",
        Handling::NoEffect(
            "this container's files stay as they are; RUN needs no permission to change them",
        ),
    ),
    Flag::value(
        "commit",
        "implicit",
        Handling::Honoured(
            "implicit: a layer for each step; explicit: one up to each `#!COMMIT`, and one at the end. Each step is cached in both",
        ),
    ),
    Flag::value(
        "blacklist",
        "/var/run",
        Handling::Judged(
            "accepted for what is of the container around the build, which is in no layer; other paths: refused",
            blacklist,
        ),
    ),
    Flag::value(
        "local-cache-ttl",
        "336h",
        Handling::Noted("records of this machine stay until they are pruned: `kiln prune`"),
    ),
    Flag::value(
        "redis-cache-addr",
        "redis:6379",
        Handling::Honoured(
            "a cache of `type=redis`, with TLS as `rediss://HOST:PORT`, with BuildKit's keys; Makisu's own entries are not read; the layers are in the repository of `--push`",
        ),
    ),
    Flag::value("redis-cache-password", "p", Handling::Honoured("its password")),
    Flag::value("redis-cache-ttl", "336h", Handling::Honoured("how long its entries stay")),
    Flag::value(
        "http-cache-addr",
        "http://cache",
        Handling::Honoured(
            "a cache of `type=http`, with BuildKit's keys; Makisu's own entries are not read; the layers are in the repository of `--push`",
        ),
    ),
    Flag::value(
        "http-cache-header",
        "Authorization:x",
        Handling::Honoured("a header of its requests"),
    ),
    Flag::value(
        "docker-host",
        "unix:///var/run/docker.sock",
        Handling::Honoured("the engine of `--load`"),
    ),
    Flag::value("docker-version", "1.21", Handling::NoEffect("the engine's own version is spoken")),
    Flag::value("docker-scheme", "http", Handling::NoEffect("`--docker-host` says it")),
    Flag::switch("load", Handling::Honoured("loads the image into a Docker engine")),
    Flag::value("storage", "/makisu-storage", Handling::Honoured("`kiln` in it is the state")),
    Flag::value(
        "compression",
        "default",
        Handling::Honoured("no, speed (gzip 1), size (gzip 9), default"),
    ),
    Flag::switch("preserve-root", Handling::NoEffect("this container's files stay as they are")),
];

/// The flags of `push`.
pub const PUSH: &[Flag] = &[
    Flag::value("tag", "team/app:1", Handling::Honoured("the image's name; needed")).short('t'),
    Flag::value(
        "push",
        "r.example.com",
        Handling::Honoured("registries that it goes to, under the name of `--tag`"),
    ),
    Flag::value("replica", "r.example.com/other:1", Handling::Honoured("another whole name")),
    CONFIG,
];

/// The flags of `pull`.
pub const PULL: &[Flag] = &[
    Flag::value("registry", "index.docker.io", Handling::Honoured("the registry")),
    Flag::value("tag", "latest", Handling::Honoured("the tag")),
    Flag::value(
        "cacerts",
        "/etc/ssl/certs",
        Handling::Refused("authorities are those of SSL_CERT_FILE, or of /etc/docker/certs.d/HOST"),
    ),
    Flag::value(
        "extract",
        "rootfs",
        Handling::Honoured("writes the image's files into this folder; what is there stays"),
    ),
];

/// The flags of `diff`.
pub const DIFF: &[Flag] = &[Flag::switch(
    "ignoreModTime",
    Handling::Honoured(
        "whether times of files do not count (true); `--ignoreModTime=false` shows them",
    ),
)];
