//! The flags of `buildctl`, and the options of the Dockerfile frontend.

use crate::personalities::flags::{Fate, Row, Verdict};

const NO_DAEMON: &str = "the build runs in this process, and there is no daemon to talk to";

fn frontend(name: &str) -> Verdict {
    match name {
        "dockerfile.v0" | "gateway.v0" => Verdict::Take,
        _ => Verdict::Refuse(
            "Dockerfiles are built here, and nothing else: `--frontend dockerfile.v0`",
        ),
    }
}

/// Flags before a command.
pub const GLOBAL: &[Row] = &[
    Row::value("addr", "tcp://buildkitd:1234", Fate::Noted(NO_DAEMON)),
    Row::switch("debug", Fate::Accepted("`kiln --debug buildctl …` says more of failures")),
    Row::value("log-format", "json", Fate::Accepted("progress has `--progress=rawjson`")),
    Row::value("tlsservername", "x", Fate::Accepted(NO_DAEMON)),
    Row::value("tlscacert", "x", Fate::Accepted(NO_DAEMON)),
    Row::value("tlscert", "x", Fate::Accepted(NO_DAEMON)),
    Row::value("tlskey", "x", Fate::Accepted(NO_DAEMON)),
    Row::value("tlsdir", "x", Fate::Accepted(NO_DAEMON)),
    Row::value("timeout", "5", Fate::Accepted(NO_DAEMON)),
    Row::switch("wait", Fate::Accepted(NO_DAEMON)),
    Row::switch("version", Fate::Honoured("prints the version")).short('v'),
];

/// The flags of `build`.
pub const BUILD: &[Row] = &[
    Row::value(
        "frontend",
        "dockerfile.v0",
        Fate::Judged(
            "dockerfile.v0, or gateway.v0 with `--opt source=docker/dockerfile…`; others: refused",
            frontend,
        ),
    ),
    Row::value(
        "local",
        "context=.",
        Fate::Honoured(
            "`context=DIR`, `dockerfile=DIR`, and others that `--opt context:NAME=local:…` names",
        ),
    ),
    Row::value("opt", "target=app", Fate::Honoured("options of the frontend, see below"))
        .alias(&["frontend-opt"]),
    Row::value(
        "output",
        "type=image,name=app",
        Fate::Honoured(
            "as `kiln build --output`; oci, docker and tar without `dest` go to standard output",
        ),
    )
    .short('o'),
    Row::value(
        "import-cache",
        "type=registry,ref=app:cache",
        Fate::Honoured("as `kiln build --cache-from`"),
    ),
    Row::value(
        "export-cache",
        "type=registry,ref=app:cache",
        Fate::Honoured("as `kiln build --cache-to`"),
    ),
    Row::value("secret", "id=a,env=PATH", Fate::Honoured("as `kiln build --secret`")),
    Row::value("ssh", "default", Fate::Honoured("as `kiln build --ssh`")),
    Row::value("allow", "network.host", Fate::Honoured("as `kiln build --allow`")),
    Row::value(
        "metadata-file",
        "m.json",
        Fate::Honoured("digests and names of the result, as JSON"),
    ),
    Row::value(
        "progress",
        "plain",
        Fate::Honoured("auto, plain, tty, rawjson; quiet shows nothing"),
    ),
    Row::switch("no-cache", Fate::Honoured("runs every step")),
    Row::value(
        "trace",
        "t",
        Fate::Refused("there is no such file: `--progress=rawjson` has every event"),
    ),
    Row::value(
        "oci-layout",
        "a=dir",
        Fate::Honoured("`NAME=DIR`, for `--opt context:X=oci-layout://NAME…`"),
    ),
    Row::value(
        "source-policy-file",
        "p.json",
        Fate::Refused("source policies are not read: pin images by digest in FROM"),
    ),
    Row::value(
        "ref-file",
        "r",
        Fate::Refused("no records of builds are kept: `--metadata-file` has the digests"),
    ),
    Row::value(
        "registry-auth-tlscontext",
        "host=x,ca=y",
        Fate::Refused(
            "certificates of registries lie in ~/.docker/certs.d/HOST or /etc/docker/certs.d/HOST",
        ),
    ),
    Row::value(
        "debug-json-cache-metrics",
        "m",
        Fate::Refused("`kiln.stats` in `--metadata-file` counts steps and bytes"),
    ),
    Row::switch(
        "proxy-network",
        Fate::Refused(
            "a RUN has the network of this machine, or none (`--opt force-network-mode=none`)",
        ),
    ),
    Row::value("exporter", "image", Fate::Refused("it is written `--output type=image,…`")),
    Row::value(
        "exporter-opt",
        "name=x",
        Fate::Refused("it is written `--output type=image,name=…`"),
    ),
];

/// The flags of `du`.
pub const DU: &[Row] = &[
    Row::switch("verbose", Fate::Honoured("shows more of each entry")).short('v'),
    Row::value("filter", "type==regular", Fate::Honoured("as `kiln du --filter`")).short('f'),
    Row::value("format", "json", Fate::Honoured("a table, or json")),
];

/// The flags of `prune`.
pub const PRUNE: &[Row] = &[
    Row::switch(
        "all",
        Fate::Honoured("cache mounts too, and what images can be unpacked again from"),
    ),
    Row::value("keep-storage", "10000", Fate::Honoured("removes until so many megabytes are left"))
        .alias(&["max-used-space"]),
    Row::value(
        "keep-storage-min",
        "1000",
        Fate::Honoured(
            "so many megabytes stay, whatever the others say; alone, removes until they are left",
        ),
    )
    .alias(&["reserved-space"]),
    Row::value(
        "free-storage",
        "10000",
        Fate::Honoured("removes until so many megabytes of the disk are free"),
    )
    .alias(&["min-free-space"]),
    Row::value("format", "json", Fate::Refused("`--verbose` shows what is removed")),
    Row::value("keep-duration", "24h", Fate::Honoured("only what was not used for so long")),
    Row::value("filter", "type==regular", Fate::Honoured("as `kiln prune --filter`")).short('f'),
    Row::switch("verbose", Fate::Honoured("shows what is removed")).short('v'),
];

/// Options of the frontend (`--opt`), and what becomes of each.
pub const OPTIONS: &[(&str, &str)] = &[
    ("filename", "the Dockerfile's name in the local `dockerfile`"),
    ("target", "the stage"),
    ("build-arg:NAME", "a build argument"),
    ("label:NAME", "a label"),
    ("platform", "what to build for"),
    ("no-cache", "empty: every step; names: the steps of these stages"),
    ("add-hosts", "lines of /etc/hosts, `HOST=IP,…`"),
    ("context:NAME", "a named context; `local:NAME` is a `--local`"),
    ("context", "a context from git or a URL instead of `--local context=`"),
    ("contextsubdir", "a folder of the context"),
    ("contextkey", "the `--local` that is the context"),
    ("dockerfilekey", "the `--local` that has the Dockerfile"),
    ("attest:sbom", "as `kiln build --attest type=sbom`"),
    ("attest:provenance", "as `kiln build --attest type=provenance`"),
    (
        "vcs:NAME",
        "what the provenance says of the source: `vcs:source`, `vcs:revision`, `vcs:localdir:context`",
    ),
    ("force-network-mode", "sandbox, host or none"),
    ("image-resolve-mode", "pull: bases are asked for again; default, local"),
    ("shm-size", "the size of /dev/shm"),
    ("ulimit", "limits, `NAME=SOFT:HARD,…`"),
    (
        "cgroup-parent",
        "noted: part of the keys of steps; they stay in the control group of the job",
    ),
    ("memory", "noted: steps have the limits of the job that kiln runs in; also memswap, cpu…"),
    ("cache-imports", "caches, as the JSON that buildx sends"),
    ("cache-from", "caches, as references"),
    ("requestid", "a question instead of a build, as `kiln build --call`"),
    ("source", "docker/dockerfile, which is built in; others: refused"),
    ("multi-platform", "false: accepted; true: refused, several platforms make an index anyway"),
    ("hostname", "refused: a step's host name is BuildKit's, and part of its key"),
];
