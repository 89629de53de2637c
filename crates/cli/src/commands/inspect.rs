//! `kiln inspect` and `kiln image inspect`.

use build::images::{Kept, look_up};
use oci::{Digest, ImageConfig, Reference};
use serde::Serialize as _;
use serde_json::{Map, Value, json};
use store::Store;

use super::listing::RowFormat;
use super::reports;
use crate::args::InspectArgs;
use crate::render::Report;
use crate::terminal;

/// Prints images as JSON: those that are found, even if others are not.
///
/// # Errors
/// If a flag is wrong or an image is not here.
pub fn run(args: &InspectArgs, store: &Store) -> Result<(), Report> {
    let format = RowFormat::read(args.format.as_deref())?;
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for name in &args.images {
        match look_up(store, name) {
            Ok(here) => found.push(inspected(here.image)),
            Err(error) => failed.push(error),
        }
    }
    // `json` is one array, and a template is rendered for each image, as in docker.
    let printed = match &format {
        RowFormat::Table | RowFormat::Json => text(&found, format == RowFormat::Json),
        format => {
            let values: Vec<Value> = found.iter().map(|image| typed(value(image))).collect();
            format.lines(&values)?.unwrap_or_default()
        }
    };
    terminal::print(&printed)?;
    reports(&failed)
}

/// An image in the form of `docker image inspect`.
pub fn object(image: Kept) -> Value {
    value(&inspected(image))
}

fn inspected(image: Kept) -> InspectedImage {
    InspectedImage {
        size: image.size(),
        names: image.names,
        digest: image.manifest.digest,
        config_digest: image.id,
        config: image.config,
    }
}

/// An image with the properties that are shown.
#[derive(Clone, Debug)]
pub struct InspectedImage {
    /// Its names.
    pub names: Vec<Reference>,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Digest of its config: docker's image ID.
    pub config_digest: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// Bytes of its layers as they are stored or sent.
    pub size: u64,
}

/// The images in the form of `docker image inspect`; on one line if `compact`.
pub fn text(images: &[InspectedImage], compact: bool) -> String {
    let values: Vec<Value> = images.iter().map(value).collect();
    let text = match compact {
        true => serde_json::to_string(&values),
        false => indented(&values),
    };
    text.unwrap_or_default() + "\n"
}

/// Indents JSON as docker does: scripts without `jq` count blanks.
fn indented(values: &[Value]) -> serde_json::Result<String> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    values.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The fields of a config that docker shows even if an image lacks them, with their types in Go.
const CONFIG: [(&str, Kind); 9] = [
    ("User", Kind::Text),
    ("ExposedPorts", Kind::Map),
    ("Env", Kind::List),
    ("Cmd", Kind::List),
    ("Volumes", Kind::Map),
    ("WorkingDir", Kind::Text),
    ("Entrypoint", Kind::List),
    ("OnBuild", Kind::List),
    ("Labels", Kind::Map),
];

#[derive(Clone, Copy)]
enum Kind {
    Text,
    List,
    Map,
}

/// A config with all fields of [`CONFIG`].
fn whole(config: Value) -> Value {
    let mut config = match config {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    for (name, kind) in CONFIG {
        let empty = if matches!(kind, Kind::Text) { Value::from("") } else { Value::Null };
        config.entry(name).or_insert(empty);
    }
    Value::Object(config)
}

/// The image for templates: Go prints a missing list as `[]`, and a missing map as `map[]`.
fn typed(mut image: Value) -> Value {
    for (name, kind) in CONFIG {
        let field = &mut image["Config"][name];
        if field.is_null() {
            *field = match kind {
                Kind::Text => "".into(),
                Kind::List => Value::Array(Vec::new()),
                Kind::Map => Value::Object(Map::new()),
            };
        }
    }
    image
}

/// Docker's `RepoTags` of an image.
pub fn tags(names: &[Reference]) -> Vec<String> {
    names.iter().filter(|name| name.tag().is_some()).map(Reference::familiar).collect()
}

/// Docker's `RepoDigests` of an image: its repositories, each with the digest of the manifest.
pub fn digests(names: &[Reference], manifest: Digest) -> Vec<String> {
    let digest = |name: &Reference| {
        Reference::new(name.repository().clone(), None, Some(manifest)).familiar()
    };
    let mut digests: Vec<String> = names.iter().map(digest).collect();
    digests.sort();
    digests.dedup();
    digests
}

fn value(image: &InspectedImage) -> Value {
    let config = &image.config;
    let comment = config.history.last().map(|step| step.comment.clone()).unwrap_or_default();
    json!({
        "Id": image.config_digest,
        "RepoTags": tags(&image.names),
        "RepoDigests": digests(&image.names, image.digest),
        "Parent": "",
        "Comment": comment,
        "DockerVersion": "",
        "Created": config.created,
        "Author": config.author,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": image.size,
        "Config": whole(serde_json::to_value(&config.config).unwrap_or_default()),
        "RootFS": { "Type": "layers", "Layers": config.rootfs.diff_ids },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> InspectedImage {
        let config: ImageConfig = serde_json::from_str(
            r#"{"architecture":"amd64","os":"linux","config":{"Env":["A=1"]},"rootfs":{"type":"layers","diff_ids":[]}}"#,
        )
        .unwrap();
        InspectedImage {
            names: vec!["app:1".parse().unwrap(), "app:2".parse().unwrap()],
            digest: Digest::of("m"),
            config_digest: Digest::of("c"),
            config,
            size: 7,
        }
    }

    #[test]
    fn what_an_image_does_not_have_is_empty() {
        let value = value(&image());
        assert_eq!(value["Config"]["User"], "");
        assert_eq!(value["Config"]["Entrypoint"], Value::Null);
        assert_eq!(value["DockerVersion"], "");
        let template = "{{.Config.Entrypoint}}{{.Config.Labels}}{{.Config.User}}{{.Comment}}";
        let template = gotemplate::Template::parse(template).unwrap();
        assert_eq!(template.render(&typed(value)).as_deref(), Ok("[]map[]"));
    }

    #[test]
    fn the_shape_is_dockers() {
        assert!(text(&[image()], false).starts_with("[\n    {\n        \"Id\": \"sha256:"));
        let value: Value = serde_json::from_str(&text(&[image()], true)).unwrap();
        assert_eq!(value[0]["RepoTags"], json!(["app:1", "app:2"]));
        assert_eq!(value[0]["RepoDigests"], json!([format!("app@{}", Digest::of("m"))]));
        assert_eq!(value[0]["Config"]["Env"][0], "A=1");
    }
}
