//! The flags of kaniko's `executor` and `warmer`.

use crate::personalities::flags::{Flag, Handling, Verdict};

const SAME_FILES: &str =
    "layers are made of what a step changed, whatever the mode: the result is the same";
const RETRIES: &str = "registries are asked again anyway, with growing pauses";
const INSECURE_PULL: Flag =
    Flag::switch("insecure-pull", Handling::Honoured("every registry may speak plain HTTP"));
const VERIFY_PULL: Flag = Flag::switch(
    "skip-tls-verify-pull",
    Handling::Honoured("every registry may have an untrusted certificate"),
);
const INSECURE_REGISTRY: Flag = Flag::value(
    "insecure-registry",
    "r.example.com",
    Handling::Honoured("this registry may speak plain HTTP"),
);
const VERIFY_REGISTRY: Flag = Flag::value(
    "skip-tls-verify-registry",
    "r.example.com",
    Handling::Honoured("this registry may have an untrusted certificate"),
);
const CERTIFICATE: Flag = Flag::value(
    "registry-certificate",
    "r.example.com=/ca.pem",
    Handling::Honoured("the authority that signs a registry's certificate"),
);
const CLIENT_CERTIFICATE: Flag = Flag::value(
    "registry-client-cert",
    "r.example.com=/cert.pem,/key.pem",
    Handling::Honoured("the certificate and key by which a registry knows the caller"),
);
const MIRROR: Flag = Flag::value(
    "registry-mirror",
    "mirror.gcr.io",
    Handling::Honoured("asked before docker.io; also KANIKO_REGISTRY_MIRROR"),
);
const MAP: Flag = Flag::value(
    "registry-map",
    "docker.io=mirror.example.com",
    Handling::Honoured("registries that are asked before others; also KANIKO_REGISTRY_MAP"),
);
const FALLBACK: Flag = Flag::switch(
    "skip-default-registry-fallback",
    Handling::Refused(
        "a registry itself is asked when its mirrors lack an image: leave the flag out, and name the mirror in FROM where that must not happen",
    ),
);
const PLATFORM: Flag = Flag::value(
    "custom-platform",
    "linux/amd64",
    Handling::Honoured("what to build for; RUN for another processor needs binfmt on the host"),
)
.alias(&["customPlatform"]);
const CACHE_TTL: Flag = Flag::value(
    "cache-ttl",
    "336h",
    Handling::Honoured(
        "part of the cache's tag, which changes each time that long: nothing older is used. Without the flag nothing expires",
    ),
);
const BUILD_ARG: Flag = Flag::value(
    "build-arg",
    "A=1",
    Handling::Honoured("`NAME=VALUE`; without `=` the value of the environment, or an empty one"),
);
const VERBOSITY: Flag = Flag::value(
    "verbosity",
    "info",
    Handling::Honoured(
        "error, fatal and panic show no progress; debug and trace say more of failures",
    ),
)
.short('v');
const LOG_FORMAT: Flag = Flag::value(
    "log-format",
    "text",
    Handling::Honoured(
        "text: plain; json: one object per event (rawjson); color: live on a terminal",
    ),
);
const LOG_TIMESTAMP: Flag = Flag::switch(
    "log-timestamp",
    Handling::Noted(
        "lines of a step have the seconds since it began; `--log-format=json` has times",
    ),
);
const CACHE_DIR: Flag = Flag::value(
    "cache-dir",
    "/tmp",
    Handling::Honoured(
        "`kiln` in it is the state that warmer filled, if it is there and can be written",
    ),
);

/// Paths of the container that a build runs in; no layer ever has them here.
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

/// True if a path belongs to the container that a build runs in.
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
pub const EXECUTOR: &[Flag] = &[
    Flag::value("dockerfile", "Dockerfile", Handling::Honoured("a path from here, else in the context; a URL")).short('f'),
    Flag::value("context", ".", Handling::Honoured("a folder (`dir://`), `tar://FILE`, `tar://stdin`, `git://`, `https://….tar.gz`, `s3://` (also S3_ENDPOINT and S3_FORCE_PATH_STYLE), `gs://`, Azure's addresses")).short('c'),
    Flag::value("context-sub-path", "sub", Handling::Honoured("a folder of the context")),
    Flag::value("bucket", "b", Handling::Refused("give the whole address: `--context gs://BUCKET/FILE.tar.gz`")).short('b'),
    Flag::value("git", "branch=main", Handling::Judged("`branch=`: honoured; `single-branch`, `recurse-submodules`, `depth`: accepted; `insecure-skip-tls`: refused", super::options::git_option)),
    BUILD_ARG,
    Flag::value("target", "app", Handling::Honoured("the stage to build")),
    Flag::switch("skip-unused-stages", Handling::NoEffect("stages that are not needed are never built")),
    PLATFORM,
    Flag::value("label", "a=b", Handling::Honoured("metadata of the image")),
    Flag::value("annotation", "a=b", Handling::Honoured("an annotation of the image, as kaniko's forks have it")),
    Flag::value("secret", "id=a,src=f", Handling::Honoured("a secret for `RUN --mount=type=secret`, as kaniko's forks have it")),
    Flag::value("image-format", "oci", Handling::Honoured("oci or docker, as kaniko's forks have it")),
    Flag::switch("pre-cleanup", Handling::NoEffect("a build leaves this container's files as they are")),
    Flag::switch("preserve-context", Handling::NoEffect("a build leaves this container's files as they are")),
    Flag::value("destination", "r.example.com/app", Handling::Honoured("names of the image; each is pushed")).short('d'),
    Flag::switch("no-push", Handling::Honoured("pushes nothing; the image is kept in kiln's root. Also KANIKO_NO_PUSH")),
    Flag::switch("no-push-cache", Handling::Honoured("reads the cache, and leaves nothing there")),
    Flag::value("tar-path", "a.tar", Handling::Honoured("an archive for `docker load` too")).alias(&["tarPath"]),
    Flag::value("oci-layout-path", "layout", Handling::Honoured("a folder in the OCI layout too")),
    Flag::value("digest-file", "d", Handling::Judged("the digest, without a line's end; a URL is refused", file_or_url)),
    Flag::value("image-name-with-digest-file", "d", Handling::Judged("`NAME@DIGEST`, a line for each destination; a URL is refused", file_or_url)),
    Flag::value("image-name-tag-with-digest-file", "d", Handling::Judged("`NAME:TAG@DIGEST`, a line for each destination; a URL is refused", file_or_url)),
    Flag::value("compression", "gzip", Handling::Honoured("gzip or zstd, of new layers")),
    Flag::value("compression-level", "3", Handling::Honoured("gzip 0 to 9, zstd 0 to 22; -1 is the default")),
    Flag::value("push-retry", "3", Handling::NoEffect(RETRIES)),
    Flag::switch("push-ignore-immutable-tag-errors", Handling::Refused("an error of a push is one: give each build its own tag")),
    Flag::switch("skip-push-permission-check", Handling::Honoured("does not ask before the first RUN whether the image may be pushed")),
    Flag::switch("force-build-metadata", Handling::NoEffect("the history has every instruction anyway")),
    Flag::switch("cleanup", Handling::NoEffect("a build leaves this container's files as they are")),
    Flag::value("snapshot-mode", "redo", Handling::Noted(SAME_FILES)).alias(&["snapshotMode"]),
    Flag::switch("single-snapshot", Handling::Honoured("one layer on the base; steps are cached one by one all the same")),
    Flag::switch("use-new-run", Handling::Noted(SAME_FILES)),
    Flag::value("ignore-path", "/product_uuid", Handling::Judged("accepted for what is of the container around the build, which is in no layer; other paths: refused", ignore_path)),
    Flag::switch("ignore-var-run", Handling::Judged("accepted: what is of the container around the build is in no layer", var_run)).alias(&["whitelist-var-run"]),
    Flag::switch("reproducible", Handling::Honoured("all times are 1970 (SOURCE_DATE_EPOCH=0, `rewrite-timestamp=true`)")),
    Flag::switch("cache", Handling::Honoured("reads and leaves BuildKit's cache at `CACHE-REPO:kiln-…`, a tag that belongs to the destination's repository, the Dockerfile and the target; kaniko's own cached layers are not read")),
    Flag::value("cache-repo", "r.example.com/app/cache", Handling::Honoured("the repository of the cache, or `oci:FOLDER`; else the destination's with `/cache`")),
    Flag::switch("cache-copy-layers", Handling::NoEffect("all steps are cached")),
    Flag::switch("cache-run-layers", Handling::Judged("accepted: all steps are cached; `=false`: refused", run_layers)),
    CACHE_TTL,
    CACHE_DIR,
    Flag::switch("compressed-caching", Handling::NoEffect("layers are never held in memory")),
    Flag::switch("insecure", Handling::Honoured("the destinations' registries may speak plain HTTP")),
    INSECURE_PULL,
    Flag::switch("skip-tls-verify", Handling::Honoured("the destinations' registries may have an untrusted certificate; plain HTTP too, which is no less safe then")),
    VERIFY_PULL,
    INSECURE_REGISTRY,
    VERIFY_REGISTRY,
    CERTIFICATE,
    CLIENT_CERTIFICATE,
    MIRROR,
    MAP,
    FALLBACK,
    Flag::value("image-download-retry", "3", Handling::NoEffect(RETRIES)),
    Flag::value("image-fs-extract-retry", "3", Handling::NoEffect(RETRIES)),
    Flag::value("credential-helpers", "ecr", Handling::Noted("the helpers are those of `config.json` (`credHelpers`, `credsStore`), found in PATH")),
    Flag::value("azure-container-registry-config", "f", Handling::Refused("logins are those of `config.json`: name `acr-env` or another helper in its `credHelpers`")),
    Flag::value("kaniko-dir", "/kaniko", Handling::Honoured("`.docker/config.json` is looked for in it; also KANIKO_DIR")),
    Flag::switch("force", Handling::NoEffect("a build leaves the system around it as it is, in a container or not")),
    VERBOSITY,
    LOG_FORMAT,
    LOG_TIMESTAMP,
];

/// The warmer's flags.
pub const WARMER: &[Flag] = &[
    Flag::value("image", "busybox", Handling::Honoured("an image to fetch")).short('i'),
    Flag::value(
        "cache-dir",
        "/cache",
        Handling::Honoured("where; `kiln` in it is the state that the executor uses"),
    )
    .short('c'),
    Flag::switch(
        "force",
        Handling::NoEffect("an image that is there costs one question to the registry"),
    )
    .short('f'),
    Flag::value("cache-ttl", "336h", Handling::NoEffect("the registry is asked for each image")),
    Flag::value(
        "dockerfile",
        "Dockerfile",
        Handling::Refused(
            "name the images with `--image`; a build asks the registry for what is missing",
        ),
    )
    .short('d'),
    Flag::value(
        "build-arg",
        "A=1",
        Handling::Refused(
            "it belongs to `--dockerfile`, which is not there: name the images with `--image`",
        ),
    ),
    PLATFORM,
    Flag::switch("insecure", Handling::Honoured("every registry may speak plain HTTP")),
    INSECURE_PULL,
    Flag::switch(
        "skip-tls-verify",
        Handling::Honoured("every registry may have an untrusted certificate"),
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
