//! Endpoints of builds.

use super::endpoint::{Action, Endpoint, Parameter, honoured, no_effect, noted, run};

const NO_LIMIT: &str = "no limit is set: steps have those of the job that kiln runs in";

pub(super) const BUILD: &[Endpoint] = &[
    run(
        "POST",
        "/build",
        Action::Build,
        "builds an image from an archive, a repository, a download, or the files of a session",
        PARAMETERS,
    ),
    run(
        "POST",
        "/build/cancel",
        Action::CancelBuild,
        "ends a build",
        &[honoured("id", "the build's `buildid`")],
    ),
    run(
        "POST",
        "/build/prune",
        Action::PruneBuild,
        "removes build cache",
        &[
            honoured("all", "what images have goes too, and cache mounts"),
            honoured("keep-storage", "bytes that stay (`reserved-space` since 1.48)"),
            honoured("reserved-space", "bytes that stay however full the disk is"),
            honoured("max-used-space", "the most bytes that stay"),
            honoured("min-free-space", "bytes of the disk to keep free"),
            honoured("filters", "`until`, `unused-for`, `type`"),
        ],
    ),
    run("POST", "/grpc", Action::Grpc, "BuildKit's API, by an upgrade to h2c", &[]),
    run(
        "POST",
        "/session",
        Action::Session,
        "a client's session for builds, by an upgrade to h2c",
        &[],
    ),
];

/// The parameters of a build.
const PARAMETERS: &[Parameter] = &[
    honoured("dockerfile", "path of the Dockerfile in the files"),
    honoured("t", "a name of the image; repeated"),
    honoured("buildargs", "build arguments, a JSON object; null takes the Dockerfile's default"),
    honoured("labels", "labels, a JSON object"),
    honoured("target", "the stage to build"),
    honoured("platform", "the platform"),
    honoured("nocache", "no record is used"),
    honoured("pull", "bases are asked for again"),
    honoured("cachefrom", "images with inline caches, a JSON list"),
    honoured("networkmode", "`default`, `bridge`, `host` or `none`"),
    honoured("extrahosts", "`name:address`; repeated"),
    honoured("shmsize", "bytes of /dev/shm"),
    honoured("ulimits", "limits of processes, a JSON list"),
    honoured("cgroupparent", "part of the keys of steps; steps stay in kiln's control group"),
    honoured(
        "remote",
        "a repository or a download; `client-session` for the files of a session, `upload-request` for an archive in \
         a request of its own",
    ),
    honoured("session", "the session with files, secrets and agents"),
    honoured("version", "1 for the classic way, 2 for BuildKit's"),
    honoured(
        "buildid",
        "the ID for `POST /build/cancel`; `upload-request:ID` for the archive of the build with an ID",
    ),
    honoured("outputs", "outputs of BuildKit's way, a JSON list"),
    honoured("q", "the ID is the only output"),
    no_effect("rm", "a build leaves no containers"),
    no_effect("forcerm", "a build leaves no containers"),
    no_effect("compress", "the archive is read as it comes"),
    noted(
        "squash",
        "it changes nothing, as with BuildKit; `kiln build --layers=one` makes one layer",
    ),
    noted("securityopt", "it changes nothing, as with BuildKit"),
    no_effect("isolation", "it is for Windows"),
    noted("memory", NO_LIMIT),
    noted("memswap", NO_LIMIT),
    noted("cpushares", NO_LIMIT),
    noted("cpuperiod", NO_LIMIT),
    noted("cpuquota", NO_LIMIT),
    noted("cpusetcpus", NO_LIMIT),
    noted("cpusetmems", NO_LIMIT),
];
