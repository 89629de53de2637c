//! The flags of kaniko's `executor` and `warmer`.

use crate::personalities::flags::{Fate, Row, Verdict};

const SAME_FILES: &str =
    "layers are made of what a step changed, whatever the mode: the result is the same";
const RETRIES: &str = "registries are asked again anyway, with growing pauses";
const INSECURE_PULL: Row =
    Row::switch("insecure-pull", Fate::Honoured("every registry may speak plain HTTP"));
const VERIFY_PULL: Row = Row::switch(
    "skip-tls-verify-pull",
    Fate::Honoured("every registry may have a certificate that nobody vouches for"),
);
const INSECURE_REGISTRY: Row = Row::value(
    "insecure-registry",
    "r.example.com",
    Fate::Honoured("this registry may speak plain HTTP"),
);
const VERIFY_REGISTRY: Row = Row::value(
    "skip-tls-verify-registry",
    "r.example.com",
    Fate::Honoured("this registry may have a certificate that nobody vouches for"),
);
const CERTIFICATE: Row = Row::value(
    "registry-certificate",
    "r.example.com=/ca.pem",
    Fate::Honoured("the authority that vouches for a registry"),
);
const CLIENT_CERTIFICATE: Row = Row::value(
    "registry-client-cert",
    "r.example.com=/cert.pem,/key.pem",
    Fate::Honoured("the certificate and key by which a registry knows the caller"),
);
const MIRROR: Row = Row::value(
    "registry-mirror",
    "mirror.gcr.io",
    Fate::Honoured("asked before docker.io; also KANIKO_REGISTRY_MIRROR"),
);
const MAP: Row = Row::value(
    "registry-map",
    "docker.io=mirror.example.com",
    Fate::Honoured("registries that are asked before others; also KANIKO_REGISTRY_MAP"),
);
const FALLBACK: Row = Row::switch(
    "skip-default-registry-fallback",
    Fate::Refused(
        "a registry itself is asked when its mirrors lack an image: leave the flag out, and name the mirror in FROM where that must not happen",
    ),
);
const PLATFORM: Row = Row::value(
    "custom-platform",
    "linux/amd64",
    Fate::Honoured("what to build for; RUN for another processor needs binfmt on the host"),
)
.alias(&["customPlatform"]);
const CACHE_TTL: Row = Row::value(
    "cache-ttl",
    "336h",
    Fate::Honoured(
        "part of the cache's tag, which changes each time that long: nothing older is used. Without the flag nothing expires",
    ),
);
const BUILD_ARG: Row = Row::value(
    "build-arg",
    "A=1",
    Fate::Honoured("`NAME=VALUE`; without `=` the value of the environment, or an empty one"),
);
const VERBOSITY: Row = Row::value(
    "verbosity",
    "info",
    Fate::Honoured("error, fatal and panic show no progress; debug and trace say more of failures"),
)
.short('v');
const LOG_FORMAT: Row = Row::value(
    "log-format",
    "text",
    Fate::Honoured("text: plain; json: one object per event (rawjson); color: live on a terminal"),
);
const LOG_TIMESTAMP: Row = Row::switch(
    "log-timestamp",
    Fate::Noted("lines of a step have the seconds since it began; `--log-format=json` has times"),
);
const CACHE_DIR: Row = Row::value(
    "cache-dir",
    "/tmp",
    Fate::Honoured(
        "`kiln` in it is the state that warmer filled, if it is there and can be written",
    ),
);

/// Paths that come from the container that a build runs in; none of them is ever in a layer here.
const OUTSIDE: [&str; 14] = [
    "/product_uuid",
    "/kaniko",
    "/busybox",
    "/workspace",
    "/cache",
    "/dev",
    "/proc",
    "/sys",
    "/var/run",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/mtab",
    "/.dockerenv",
];

/// Whether a path is of the container that a build runs in.
pub fn is_outside(path: &str) -> bool {
    OUTSIDE.iter().any(|known| {
        path.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn ignore_path(path: &str) -> Verdict {
    match is_outside(path) {
        true => Verdict::Take,
        false => Verdict::Refuse(
            "what a RUN writes is in its layer: leave the flag out, and remove the path in the same RUN, or keep it out with `RUN --mount=type=tmpfs,target=PATH`",
        ),
    }
}

fn run_layers(value: &str) -> Verdict {
    match value {
        "false" => Verdict::Refuse(
            "a cache has all steps or none: leave the flag out, or use `kiln build --no-cache-filter STAGE`",
        ),
        _ => Verdict::Take,
    }
}

fn var_run(value: &str) -> Verdict {
    match value {
        "false" => Verdict::Note("what a RUN writes there is in its layer, and nothing else"),
        _ => Verdict::Take,
    }
}

fn file_or_url(path: &str) -> Verdict {
    match path.contains("://") {
        true => Verdict::Refuse(
            "a digest is written to a file, not sent to a URL: give a path, and send it with curl",
        ),
        false => Verdict::Take,
    }
}

/// The executor's flags.
pub const EXECUTOR: &[Row] = &[
    Row::value("dockerfile", "Dockerfile", Fate::Honoured("a path from here, else in the context; a URL")).short('f'),
    Row::value("context", ".", Fate::Honoured("a folder (`dir://`), `tar://FILE`, `tar://stdin`, `git://`, `https://….tar.gz`, `s3://` (also S3_ENDPOINT and S3_FORCE_PATH_STYLE), `gs://`, Azure's addresses")).short('c'),
    Row::value("context-sub-path", "sub", Fate::Honoured("a folder of the context")),
    Row::value("bucket", "b", Fate::Refused("give the whole address: `--context gs://BUCKET/FILE.tar.gz`")).short('b'),
    Row::value("git", "branch=main", Fate::Judged("`branch=`: honoured; `single-branch`, `recurse-submodules`, `depth`: accepted; `insecure-skip-tls`: refused", super::git_option)),
    BUILD_ARG,
    Row::value("target", "app", Fate::Honoured("the stage to build")),
    Row::switch("skip-unused-stages", Fate::Accepted("stages that are not needed are never built")),
    PLATFORM,
    Row::value("label", "a=b", Fate::Honoured("metadata of the image")),
    Row::value("annotation", "a=b", Fate::Honoured("an annotation of the image, as kaniko's forks have it")),
    Row::value("secret", "id=a,src=f", Fate::Honoured("a secret for `RUN --mount=type=secret`, as kaniko's forks have it")),
    Row::value("image-format", "oci", Fate::Honoured("oci or docker, as kaniko's forks have it")),
    Row::switch("pre-cleanup", Fate::Accepted("a build leaves this container's files as they are")),
    Row::switch("preserve-context", Fate::Accepted("a build leaves this container's files as they are")),
    Row::value("destination", "r.example.com/app", Fate::Honoured("names of the image; each is pushed")).short('d'),
    Row::switch("no-push", Fate::Honoured("pushes nothing; the image is kept in kiln's root. Also KANIKO_NO_PUSH")),
    Row::switch("no-push-cache", Fate::Honoured("reads the cache, and leaves nothing there")),
    Row::value("tar-path", "a.tar", Fate::Honoured("an archive for `docker load` too")).alias(&["tarPath"]),
    Row::value("oci-layout-path", "layout", Fate::Honoured("a folder in the OCI layout too")),
    Row::value("digest-file", "d", Fate::Judged("the digest, without a line's end; a URL is refused", file_or_url)),
    Row::value("image-name-with-digest-file", "d", Fate::Judged("`NAME@DIGEST`, a line for each destination; a URL is refused", file_or_url)),
    Row::value("image-name-tag-with-digest-file", "d", Fate::Judged("`NAME:TAG@DIGEST`, a line for each destination; a URL is refused", file_or_url)),
    Row::value("compression", "gzip", Fate::Honoured("gzip or zstd, of new layers")),
    Row::value("compression-level", "3", Fate::Honoured("gzip 0 to 9, zstd 0 to 22; -1 is the default")),
    Row::value("push-retry", "3", Fate::Accepted(RETRIES)),
    Row::switch("push-ignore-immutable-tag-errors", Fate::Refused("an error of a push is one: give each build its own tag")),
    Row::switch("skip-push-permission-check", Fate::Honoured("does not ask before the first RUN whether the image may be pushed")),
    Row::switch("force-build-metadata", Fate::Accepted("the history has every instruction anyway")),
    Row::switch("cleanup", Fate::Accepted("a build leaves this container's files as they are")),
    Row::value("snapshot-mode", "redo", Fate::Noted(SAME_FILES)).alias(&["snapshotMode"]),
    Row::switch("single-snapshot", Fate::Honoured("one layer on the base; steps are cached one by one all the same")),
    Row::switch("use-new-run", Fate::Noted(SAME_FILES)),
    Row::value("ignore-path", "/product_uuid", Fate::Judged("accepted for what is of the container around the build, which is in no layer; other paths: refused", ignore_path)),
    Row::switch("ignore-var-run", Fate::Judged("accepted: what is of the container around the build is in no layer", var_run)).alias(&["whitelist-var-run"]),
    Row::switch("reproducible", Fate::Honoured("all times are 1970 (SOURCE_DATE_EPOCH=0, `rewrite-timestamp=true`)")),
    Row::switch("cache", Fate::Honoured("reads and leaves BuildKit's cache at `CACHE-REPO:kiln-…`, a tag that belongs to the destination's repository, the Dockerfile and the target; kaniko's own cached layers are not read")),
    Row::value("cache-repo", "r.example.com/app/cache", Fate::Honoured("the repository of the cache, or `oci:FOLDER`; else the destination's with `/cache`")),
    Row::switch("cache-copy-layers", Fate::Accepted("all steps are cached")),
    Row::switch("cache-run-layers", Fate::Judged("accepted: all steps are cached; `=false`: refused", run_layers)),
    CACHE_TTL,
    CACHE_DIR,
    Row::switch("compressed-caching", Fate::Accepted("layers are never held in memory")),
    Row::switch("insecure", Fate::Honoured("the destinations' registries may speak plain HTTP")),
    INSECURE_PULL,
    Row::switch("skip-tls-verify", Fate::Honoured("the destinations' registries may have a certificate that nobody vouches for; plain HTTP too, which is no less safe then")),
    VERIFY_PULL,
    INSECURE_REGISTRY,
    VERIFY_REGISTRY,
    CERTIFICATE,
    CLIENT_CERTIFICATE,
    MIRROR,
    MAP,
    FALLBACK,
    Row::value("image-download-retry", "3", Fate::Accepted(RETRIES)),
    Row::value("image-fs-extract-retry", "3", Fate::Accepted(RETRIES)),
    Row::value("credential-helpers", "ecr", Fate::Noted("the helpers are those of `config.json` (`credHelpers`, `credsStore`), found in PATH")),
    Row::value("azure-container-registry-config", "f", Fate::Refused("logins are those of `config.json`: name `acr-env` or another helper in its `credHelpers`")),
    Row::value("kaniko-dir", "/kaniko", Fate::Honoured("`.docker/config.json` is looked for in it; also KANIKO_DIR")),
    Row::switch("force", Fate::Accepted("a build leaves the system around it as it is, in a container or not")),
    VERBOSITY,
    LOG_FORMAT,
    LOG_TIMESTAMP,
];

/// The warmer's flags.
pub const WARMER: &[Row] = &[
    Row::value("image", "busybox", Fate::Honoured("an image to fetch")).short('i'),
    Row::value(
        "cache-dir",
        "/cache",
        Fate::Honoured("where; `kiln` in it is the state that the executor uses"),
    )
    .short('c'),
    Row::switch(
        "force",
        Fate::Accepted("an image that is there costs one question to the registry"),
    )
    .short('f'),
    Row::value("cache-ttl", "336h", Fate::Accepted("the registry is asked for each image")),
    Row::value(
        "dockerfile",
        "Dockerfile",
        Fate::Refused(
            "name the images with `--image`; a build asks the registry for what is missing",
        ),
    )
    .short('d'),
    Row::value(
        "build-arg",
        "A=1",
        Fate::Refused(
            "it belongs to `--dockerfile`, which is not there: name the images with `--image`",
        ),
    ),
    PLATFORM,
    Row::switch("insecure", Fate::Honoured("every registry may speak plain HTTP")),
    INSECURE_PULL,
    Row::switch(
        "skip-tls-verify",
        Fate::Honoured("every registry may have a certificate that nobody vouches for"),
    ),
    VERIFY_PULL,
    INSECURE_REGISTRY,
    VERIFY_REGISTRY,
    CERTIFICATE,
    CLIENT_CERTIFICATE,
    MIRROR,
    MAP,
    FALLBACK,
    VERBOSITY,
    LOG_FORMAT,
    LOG_TIMESTAMP,
];
