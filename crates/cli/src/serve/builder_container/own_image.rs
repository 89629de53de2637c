//! BuildKit's image, which kiln is itself: there is one under each name of it, and none is downloaded.

use ::engine::{Message, ProgressSender};
use oci::{Digest, Platform, Reference};
use serde_json::{Value, json};

/// The ID of the image with a name.
pub(in crate::serve) fn id(name: &str) -> String {
    Digest::of(name.as_bytes()).to_string()
}

/// Says what a pull of it comes to.
pub(in crate::serve) fn say(name: &Reference, progress: &ProgressSender) {
    let name = name.familiar();
    let text = format!(
        "Status: `{name}` is not downloaded: kiln itself is BuildKit here. `docker buildx imagetools create` copies the \
         image, and a FROM uses it"
    );
    progress.send(&Message::status(text));
}

/// The object of `GET /images/{name}/json`. Without a descriptor buildx verifies no signature: there is no image to
/// have one.
pub(in crate::serve) fn object(name: &str) -> Value {
    let platform = Platform::host();
    json!({
        "Id": id(name), "RepoTags": [name], "RepoDigests": [], "Parent": "", "Comment": "",
        "Created": "1970-01-01T00:00:00Z", "DockerVersion": "", "Author": "kiln",
        "Architecture": platform.architecture, "Os": platform.os, "Size": 0, "VirtualSize": 0,
        "Config": { "Entrypoint": ["buildkitd"], "Env": [], "Cmd": null, "Labels": null },
        "GraphDriver": { "Name": "kiln", "Data": null },
        "RootFS": { "Type": "layers", "Layers": [] },
        "Metadata": { "LastTagTime": "0001-01-01T00:00:00Z" },
    })
}
