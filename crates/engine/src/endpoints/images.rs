//! Endpoints of images.

use super::endpoint::{Action, Endpoint, honoured, no_effect, refuse, refused, run};

const ONE_PLATFORM: &str =
    "an image is taken as it is kept; name a platform when it is pulled or built";

pub(super) const IMAGES: &[Endpoint] = &[
    run(
        "GET",
        "/images/json",
        Action::ListImages,
        "the images of kiln's root",
        &[
            no_effect("all", "there are no intermediate images"),
            honoured("filters", "`dangling`, `reference`, `label`, `before`, `since` and `until`"),
            honoured("filter", "a reference, as clients before 1.28 sent it"),
            no_effect("digests", "they are always there"),
            no_effect("shared-size", "it is not counted: -1"),
            no_effect(
                "manifests",
                "they are not listed: an index shows the image for this machine",
            ),
            no_effect("identity", "there are no signatures"),
        ],
    ),
    run(
        "POST",
        "/images/create",
        Action::CreateImage,
        "pulls an image, with progress",
        &[
            honoured("fromImage", "the image"),
            honoured("tag", "its tag or digest; `latest` without one, where dockerd pulls all"),
            honoured("platform", "its platform; this machine's by default"),
            refused(
                "fromSrc",
                "kiln imports no file systems: in a Dockerfile, `FROM scratch` and `ADD archive.tar /` do the same",
            ),
            refused("repo", "it belongs to `fromSrc`, which is refused"),
            refused("message", "it belongs to `fromSrc`, which is refused"),
            refused("changes", "it belongs to `fromSrc`, which is refused"),
        ],
    ),
    run(
        "GET",
        "/images/get",
        Action::SaveImages,
        "an archive of several images, as `docker save` writes it",
        &[honoured("names", "the images"), no_effect("platform", ONE_PLATFORM)],
    ),
    run(
        "POST",
        "/images/load",
        Action::LoadImages,
        "reads images from an archive, compressed or not",
        &[honoured("quiet", "without progress"), no_effect("platform", ONE_PLATFORM)],
    ),
    run(
        "POST",
        "/images/prune",
        Action::PruneImages,
        "removes images without names",
        &[honoured("filters", "`dangling=false` for all, `until`, `label`, `label!`")],
    ),
    refuse(
        "GET",
        "/images/search",
        "kiln does not search registries: look on the registry's own pages",
    ),
    run(
        "GET",
        "/images/{name}/json",
        Action::InspectImage,
        "an image's config and names",
        &[
            no_effect("platform", ONE_PLATFORM),
            no_effect(
                "manifests",
                "they are not listed: an index shows the image for this machine",
            ),
        ],
    ),
    run(
        "GET",
        "/images/{name}/history",
        Action::ImageHistory,
        "the steps that made an image",
        &[no_effect("platform", ONE_PLATFORM)],
    ),
    run(
        "GET",
        "/images/{name}/get",
        Action::SaveImage,
        "an archive of an image, as `docker save` writes it",
        &[no_effect("platform", ONE_PLATFORM)],
    ),
    run(
        "POST",
        "/images/{name}/push",
        Action::PushImage,
        "pushes an image, with progress",
        &[
            honoured("tag", "its tag; all of the repository's without one"),
            no_effect("platform", ONE_PLATFORM),
        ],
    ),
    run(
        "POST",
        "/images/{name}/tag",
        Action::TagImage,
        "gives an image another name",
        &[
            honoured("repo", "the repository"),
            honoured("tag", "the tag"),
            no_effect("force", "a name that another image has moves anyway"),
        ],
    ),
    run(
        "DELETE",
        "/images/{name}",
        Action::RemoveImage,
        "takes a name from an image, or removes it",
        &[
            honoured("force", "an ID may have names in several repositories"),
            no_effect("noprune", "layers go with `POST /build/prune`"),
            no_effect("platforms", "an image goes as a whole"),
        ],
    ),
    run(
        "GET",
        "/distribution/{name}/json",
        Action::Distribution,
        "a registry's descriptor and platforms of a name",
        &[],
    ),
];
