//! The flags of Makisu.

use crate::personalities::flags::{Fate, Row, Verdict};
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

const CONFIG: Row = Row::value(
    "registry-config",
    "{}",
    Fate::Honoured("a YAML or JSON file, or JSON itself: TLS, basic logins; see below"),
);

/// Flags of every command.
pub const GLOBAL: &[Row] = &[
    Row::value(
        "log-level",
        "info",
        Fate::Honoured("error shows no progress; debug says more of failures"),
    ),
    Row::value(
        "log-output",
        "stderr",
        Fate::Judged("stderr; stdout: accepted with a note; files: refused", log_output),
    ),
    Row::value(
        "log-fmt",
        "console",
        Fate::Honoured("console: plain; json: one object per event (rawjson)"),
    ),
    Row::switch(
        "cpu-profile",
        Fate::Refused("there is no profile: `--metadata-file` of `kiln build` has counts"),
    ),
];

/// The flags of `build`.
pub const BUILD: &[Row] = &[
    Row::value(
        "file",
        "Dockerfile",
        Fate::Honoured("the Dockerfile, in the context where it is relative"),
    )
    .short('f'),
    Row::value("tag", "team/app:1", Fate::Honoured("the image's name; needed")).short('t'),
    Row::value(
        "push",
        "r.example.com",
        Fate::Honoured("registries that the image goes to, under the name of `--tag`"),
    ),
    Row::value(
        "replica",
        "r.example.com/other:1",
        Fate::Honoured("another whole name, pushed too"),
    ),
    CONFIG,
    Row::value("dest", "a.tar", Fate::Honoured("an archive for `docker load`")),
    Row::value("target", "app", Fate::Honoured("the stage to build")),
    Row::value("build-arg", "A=1", Fate::Honoured("`NAME=VALUE`")),
    Row::switch(
        "modifyfs",
        Fate::Accepted(
            "this container's files stay as they are; RUN needs no permission to change them",
        ),
    ),
    Row::value(
        "commit",
        "implicit",
        Fate::Honoured(
            "implicit: a layer for each step; explicit: one up to each `#!COMMIT`, and one at the end. Each step is cached in both",
        ),
    ),
    Row::value(
        "blacklist",
        "/var/run",
        Fate::Judged(
            "accepted for what is of the container around the build, which is in no layer; other paths: refused",
            blacklist,
        ),
    ),
    Row::value(
        "local-cache-ttl",
        "336h",
        Fate::Noted("records of this machine stay until they are pruned: `kiln prune`"),
    ),
    Row::value(
        "redis-cache-addr",
        "redis:6379",
        Fate::Honoured(
            "a cache of `type=redis`, with BuildKit's keys; Makisu's own entries are not read; the layers are in the repository of `--push`",
        ),
    ),
    Row::value("redis-cache-password", "p", Fate::Honoured("its password")),
    Row::value("redis-cache-ttl", "336h", Fate::Honoured("how long its entries stay")),
    Row::value(
        "http-cache-addr",
        "http://cache",
        Fate::Honoured(
            "a cache of `type=http`, with BuildKit's keys; Makisu's own entries are not read; the layers are in the repository of `--push`",
        ),
    ),
    Row::value("http-cache-header", "Authorization:x", Fate::Honoured("a header of its requests")),
    Row::value(
        "docker-host",
        "unix:///var/run/docker.sock",
        Fate::Honoured("the engine of `--load`"),
    ),
    Row::value("docker-version", "1.21", Fate::Accepted("the engine's own version is spoken")),
    Row::value("docker-scheme", "http", Fate::Accepted("`--docker-host` says it")),
    Row::switch("load", Fate::Honoured("loads the image into a Docker engine")),
    Row::value("storage", "/makisu-storage", Fate::Honoured("`kiln` in it is the state")),
    Row::value(
        "compression",
        "default",
        Fate::Honoured("no, speed (gzip 1), size (gzip 9), default"),
    ),
    Row::switch("preserve-root", Fate::Accepted("this container's files stay as they are")),
];

/// The flags of `push`.
pub const PUSH: &[Row] = &[
    Row::value("tag", "team/app:1", Fate::Honoured("the image's name; needed")).short('t'),
    Row::value(
        "push",
        "r.example.com",
        Fate::Honoured("registries that it goes to, under the name of `--tag`"),
    ),
    Row::value("replica", "r.example.com/other:1", Fate::Honoured("another whole name")),
    CONFIG,
];

/// The flags of `pull`.
pub const PULL: &[Row] = &[
    Row::value("registry", "index.docker.io", Fate::Honoured("the registry")),
    Row::value("tag", "latest", Fate::Honoured("the tag")),
    Row::value(
        "cacerts",
        "/etc/ssl/certs",
        Fate::Refused("authorities are those of SSL_CERT_FILE, or of /etc/docker/certs.d/HOST"),
    ),
    Row::value(
        "extract",
        "rootfs",
        Fate::Honoured("writes the image's files into this folder; what is there stays"),
    ),
];

/// The flags of `diff`.
pub const DIFF: &[Row] = &[Row::switch(
    "ignoreModTime",
    Fate::Honoured(
        "whether times of files do not count (true); `--ignoreModTime=false` shows them",
    ),
)];
