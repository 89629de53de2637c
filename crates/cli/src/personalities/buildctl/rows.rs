//! The flags of `buildctl`, and the options of the Dockerfile frontend.

use crate::personalities::flags::{Flag, Handling, Verdict};

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
pub const GLOBAL: &[Flag] = &[
    Flag::value("addr", "tcp://buildkitd:1234", Handling::Noted(NO_DAEMON)),
    Flag::switch("debug", Handling::NoEffect("`kiln --debug buildctl …` says more of failures")),
    Flag::value("log-format", "json", Handling::NoEffect("progress has `--progress=rawjson`")),
    Flag::value("tlsservername", "x", Handling::NoEffect(NO_DAEMON)),
    Flag::value("tlscacert", "x", Handling::NoEffect(NO_DAEMON)),
    Flag::value("tlscert", "x", Handling::NoEffect(NO_DAEMON)),
    Flag::value("tlskey", "x", Handling::NoEffect(NO_DAEMON)),
    Flag::value("tlsdir", "x", Handling::NoEffect(NO_DAEMON)),
    Flag::value("timeout", "5", Handling::NoEffect(NO_DAEMON)),
    Flag::switch("wait", Handling::NoEffect(NO_DAEMON)),
    Flag::switch("version", Handling::Honoured("prints the version")).short('v'),
];

/// The flags of `build`.
pub const BUILD: &[Flag] = &[
    Flag::value(
        "frontend",
        "dockerfile.v0",
        Handling::Judged(
            "dockerfile.v0, or gateway.v0 with `--opt source=docker/dockerfile…`; others: refused",
            frontend,
        ),
    ),
    Flag::value(
        "local",
        "context=.",
        Handling::Honoured(
            "`context=DIR`, `dockerfile=DIR`, and others that `--opt context:NAME=local:…` names",
        ),
    ),
    Flag::value("opt", "target=app", Handling::Honoured("options of the frontend, see below"))
        .alias(&["frontend-opt"]),
    Flag::value(
        "output",
        "type=image,name=app",
        Handling::Honoured(
            "as `kiln build --output`; oci, docker and tar without `dest` go to standard output",
        ),
    )
    .short('o'),
    Flag::value(
        "import-cache",
        "type=registry,ref=app:cache",
        Handling::Honoured("as `kiln build --cache-from`"),
    ),
    Flag::value(
        "export-cache",
        "type=registry,ref=app:cache",
        Handling::Honoured("as `kiln build --cache-to`"),
    ),
    Flag::value("secret", "id=a,env=PATH", Handling::Honoured("as `kiln build --secret`")),
    Flag::value("ssh", "default", Handling::Honoured("as `kiln build --ssh`")),
    Flag::value("allow", "network.host", Handling::Honoured("as `kiln build --allow`")),
    Flag::value(
        "metadata-file",
        "m.json",
        Handling::Honoured("digests and names of the result, as JSON"),
    ),
    Flag::value(
        "progress",
        "plain",
        Handling::Honoured("auto, plain, tty, rawjson; quiet shows nothing"),
    ),
    Flag::switch("no-cache", Handling::Honoured("runs every step")),
    Flag::value(
        "trace",
        "t",
        Handling::Refused("there is no such file: `--progress=rawjson` has every event"),
    ),
    Flag::value(
        "oci-layout",
        "a=dir",
        Handling::Honoured("`NAME=DIR`, for `--opt context:X=oci-layout://NAME…`"),
    ),
    Flag::value(
        "source-policy-file",
        "p.json",
        Handling::Refused("source policies are not read: pin images by digest in FROM"),
    ),
    Flag::value(
        "ref-file",
        "r",
        Handling::Refused("no records of builds are kept: `--metadata-file` has the digests"),
    ),
    Flag::value(
        "registry-auth-tlscontext",
        "host=x,ca=y",
        Handling::Refused(
            "certificates of registries lie in ~/.docker/certs.d/HOST or /etc/docker/certs.d/HOST",
        ),
    ),
    Flag::value(
        "debug-json-cache-metrics",
        "m",
        Handling::Refused("`kiln.stats` in `--metadata-file` counts steps and bytes"),
    ),
    Flag::switch(
        "proxy-network",
        Handling::Refused(
            "a RUN has the network of this machine, or none (`--opt force-network-mode=none`)",
        ),
    ),
    Flag::value("exporter", "image", Handling::Refused("it is written `--output type=image,…`")),
    Flag::value(
        "exporter-opt",
        "name=x",
        Handling::Refused("it is written `--output type=image,name=…`"),
    ),
];

/// The flags of `du`.
pub const DU: &[Flag] = &[
    Flag::switch("verbose", Handling::Honoured("shows more of each entry")).short('v'),
    Flag::value("filter", "type==regular", Handling::Honoured("as `kiln du --filter`")).short('f'),
    Flag::value("format", "json", Handling::Honoured("a table, or json")),
];

/// The flags of `prune`.
pub const PRUNE: &[Flag] = &[
    Flag::switch(
        "all",
        Handling::Honoured("cache mounts too, and what images can be unpacked again from"),
    ),
    Flag::value(
        "keep-storage",
        "10000",
        Handling::Honoured("removes until so many megabytes are left"),
    )
    .alias(&["max-used-space"]),
    Flag::value(
        "keep-storage-min",
        "1000",
        Handling::Honoured(
            "so many megabytes stay, whatever the others say; alone, removes until they are left",
        ),
    )
    .alias(&["reserved-space"]),
    Flag::value(
        "free-storage",
        "10000",
        Handling::Honoured("removes until so many megabytes of the disk are free"),
    )
    .alias(&["min-free-space"]),
    Flag::value("format", "json", Handling::Refused("`--verbose` shows what is removed")),
    Flag::value("keep-duration", "24h", Handling::Honoured("only what was not used for so long")),
    Flag::value("filter", "type==regular", Handling::Honoured("as `kiln prune --filter`"))
        .short('f'),
    Flag::switch("verbose", Handling::Honoured("shows what is removed")).short('v'),
];

/// Options of the frontend (`--opt`), each with its handling.
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
