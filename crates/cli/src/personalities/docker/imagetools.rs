//! `docker buildx imagetools …`: the content of registries, and indexes made of it.

use build::images::{Described, IndexContent, Member};
use build::{Annotation, AnnotationLevel};
use gotemplate::Template;
use oci::{Descriptor, Index, Platform, Reference, media_type};
use serde_json::{Map, Value, json};

use super::lists::{carry, reference};
use crate::args::compound::annotation::annotations;
use crate::personalities::command_context::CommandContext;
use crate::personalities::flags::ParsedFlags;
use crate::personalities::{one, usage};
use crate::render::{Report, write_file};
use crate::terminal;

/// The flags of `imagetools create`.
struct Plan {
    names: Vec<Reference>,
    sources: Vec<Reference>,
    platforms: Vec<Platform>,
    annotations: Vec<Annotation>,
    /// True if a single image does not become an index.
    keeps_image: bool,
}

/// `buildx imagetools create`.
///
/// # Errors
/// If there is no name, or a registry refuses.
pub fn create(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let plan = Plan::read(given)?;
    let is_dry = given.is_on("dry-run", false);
    let metadata = given.last("metadata-file");
    let (text, descriptor) = carry(context, false, async |porter| {
        let mut content = IndexContent::default();
        // A single source without changes is copied byte for byte.
        let mut whole = None;
        match plan.sources.as_slice() {
            [source] => {
                let found = porter.whole(source).await?;
                content.members =
                    porter.members(&source.with_digest(found.descriptor.digest)).await?;
                whole = Some(found);
            }
            sources => {
                for source in sources {
                    content.members.extend(porter.members(source).await?);
                }
            }
        }
        let before = content.members.len();
        plan.shape(&mut content);
        if content.members.is_empty() {
            return Ok((String::new(), None));
        }
        let is_kept = content.members.len() == before && plan.annotations.is_empty();
        let whole = whole.filter(|found| {
            is_kept && (media_type::is_index(&found.descriptor.media_type) || plan.keeps_image)
        });
        let lone = whole.as_ref().or_else(|| plan.lone(&content));
        let descriptor = match (lone, is_dry) {
            (None, true) => {
                return Ok((String::from_utf8_lossy(&content.bytes()).into_owned() + "\n", None));
            }
            (Some(member), true) => {
                let source = Reference::new(member.repository.clone(), None, None)
                    .with_digest(member.descriptor.digest);
                let (_, bytes) = porter.look(&source).await?;
                return Ok((String::from_utf8_lossy(&bytes).into_owned() + "\n", None));
            }
            (Some(member), false) => {
                porter.copy(member, &plan.names).await?;
                Descriptor { platform: None, ..member.descriptor.clone() }
            }
            (None, false) => porter.publish(&content, &plan.names).await?,
        };
        let line = |name: &Reference| format!("{name}@{}\n", descriptor.digest);
        let text = plan.names.iter().map(line).collect();
        Ok((text, Some(descriptor)))
    })?;
    if text.is_empty() {
        return Err("none of the images is for the platforms of `--platform`".to_owned().into());
    }
    if let (Some(file), Some(descriptor)) = (metadata, descriptor) {
        let names: Vec<String> = plan.names.iter().map(ToString::to_string).collect();
        let value = json!({
            "containerimage.descriptor": descriptor,
            "containerimage.digest": descriptor.digest,
            "image.name": names.join(","),
        });
        let text = serde_json::to_string_pretty(&value).unwrap_or_default();
        write_file(file.as_ref(), &text)?;
    }
    terminal::print(&text)
}

impl Plan {
    fn read(given: &ParsedFlags) -> Result<Self, Report> {
        let names: Vec<Reference> =
            given.all("tag").into_iter().map(reference).collect::<Result<_, _>>()?;
        let appends = given.is_on("append", false);
        if names.is_empty() && (!given.is_on("dry-run", false) || appends) {
            return Err(usage("`--tag` is missing: give the name of the index", None, 1));
        }
        let mut sources: Vec<Reference> =
            names.first().filter(|_| appends).cloned().into_iter().collect();
        for file in given.all("file") {
            let text = std::fs::read_to_string(file)
                .map_err(|error| format!("reading `{file}`: {error}"))?;
            sources.push(source(text.trim(), &names)?);
        }
        for text in &given.operands {
            sources.push(source(text, &names)?);
        }
        if sources.is_empty() || (appends && sources.len() == 1) {
            return Err(usage("it takes the names of images", None, 1));
        }
        let mut platforms = Vec::new();
        for text in given.all("platform").into_iter().flat_map(|text| text.split(',')) {
            platforms.push(text.parse().map_err(|error| format!("`--platform`: {error}"))?);
        }
        let mut wanted = Vec::new();
        for text in given.all("annotation") {
            for annotation in annotations(text)? {
                let what = match annotation.level {
                    AnnotationLevel::Index | AnnotationLevel::ManifestDescriptor => {
                        wanted.push(annotation);
                        continue;
                    }
                    AnnotationLevel::Manifest => "the images are what they are",
                    AnnotationLevel::IndexDescriptor => "nothing lists the index",
                };
                let error = format!(
                    "`--annotation {text}`: {what}: write `index:KEY=VALUE`, or \
                     `manifest-descriptor:KEY=VALUE` for its entries"
                );
                return Err(error.into());
            }
        }
        let keeps_image = !given.is_on("prefer-index", true);
        Ok(Self { names, sources, platforms, annotations: wanted, keeps_image })
    }

    /// Removes the members of other platforms, and adds the annotations.
    fn shape(&self, content: &mut IndexContent) {
        if !self.platforms.is_empty() {
            content.keep(&self.platforms);
        }
        for annotation in &self.annotations {
            let (key, value) = (annotation.key.clone(), annotation.value.clone());
            if annotation.level == AnnotationLevel::Index {
                content.annotations.insert(key, value);
                continue;
            }
            for member in &mut content.members {
                let (wanted, have) = (&annotation.platform, &member.descriptor.platform);
                let is_meant = wanted
                    .as_ref()
                    .is_none_or(|wanted| have.as_ref().is_some_and(|have| have.serves(wanted)));
                if is_meant {
                    member.descriptor.annotations.insert(key.clone(), value.clone());
                }
            }
        }
    }

    /// The only image, if it does not become an index.
    fn lone<'c>(&self, content: &'c IndexContent) -> Option<&'c Member> {
        match content.members.as_slice() {
            [only] if self.keeps_image && self.annotations.is_empty() => Some(only),
            _ => None,
        }
    }
}

/// The reference of a source, which is a name, a digest in the repository of the index, or a
/// descriptor.
fn source(text: &str, names: &[Reference]) -> Result<Reference, Report> {
    let digest = match text.starts_with('{') {
        true => {
            let descriptor: Descriptor = serde_json::from_str(text)
                .map_err(|error| format!("`{text}` is no descriptor: {error}"))?;
            descriptor.digest
        }
        false => match text.strip_prefix("sha256:").and_then(|_| text.parse().ok()) {
            Some(digest) => digest,
            None => return reference(text),
        },
    };
    let name = names
        .first()
        .ok_or_else(|| format!("`{digest}`: give `--tag`, whose repository has it"))?;
    Ok(Reference::new(name.repository().clone(), None, Some(digest)))
}

/// `buildx imagetools inspect`.
///
/// # Errors
/// If the registry does not have the image.
pub fn inspect(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let name = reference(one(given, "one name")?)?;
    let is_raw = given.is_on("raw", false);
    let format = given.last("format").filter(|_| !is_raw);
    let parts = TemplateNeeds::of(format.unwrap_or("{{.Name}}"));
    let (descriptor, bytes, images) = carry(context, false, async |porter| {
        let (descriptor, bytes) = porter.look(&name).await?;
        let images = match parts.images {
            true => porter.describe(&name, parts.attestations).await?,
            false => Vec::new(),
        };
        Ok((descriptor, bytes, images))
    })?;
    if is_raw {
        return terminal::print(&String::from_utf8_lossy(&bytes));
    }
    if let Some(format) = format {
        let format = if format == "json" { "{{json .}}" } else { format };
        let value = value(&name, &descriptor, &bytes, &images);
        let text = Template::parse(format).and_then(|template| template.indented().render(&value));
        let text = text.map_err(|error| format!("`--format`: {error}"))?;
        // A template that ends its own lines gets no empty one.
        let end = if text.ends_with('\n') { "" } else { "\n" };
        return terminal::print(&format!("{text}{end}"));
    }
    let index = media_type::is_index(&descriptor.media_type)
        .then(|| serde_json::from_slice::<Index>(&bytes).ok())
        .flatten();
    terminal::print(&shown(&name, &descriptor, index.as_ref()))
}

/// The parts that a template names, each of which costs requests.
struct TemplateNeeds {
    images: bool,
    attestations: bool,
}

impl TemplateNeeds {
    fn of(format: &str) -> Self {
        let format = format.to_lowercase();
        let has = |name: &str| format.contains(&format!(".{name}"));
        let attestations = has("provenance") || has("sbom");
        let is_whole = !(attestations || has("name") || has("manifest") || has("image"));
        Self {
            images: is_whole || attestations || has("image"),
            attestations: is_whole || attestations,
        }
    }
}

/// The value that templates are rendered with.
fn value(name: &Reference, descriptor: &Descriptor, bytes: &[u8], images: &[Described]) -> Value {
    let mut manifest = Map::new();
    let index = media_type::is_index(&descriptor.media_type)
        .then(|| serde_json::from_slice::<Map<String, Value>>(bytes).ok())
        .flatten();
    if index.is_some() {
        manifest.insert("schemaVersion".into(), 2.into());
    }
    manifest.insert("mediaType".into(), json!(descriptor.media_type));
    manifest.insert("digest".into(), json!(descriptor.digest));
    manifest.insert("size".into(), json!(descriptor.size));
    for (key, value) in index.into_iter().flatten() {
        manifest.entry(key).or_insert(value);
    }
    let mut value = json!({ "name": name.to_string(), "manifest": manifest });
    let of = |part: fn(&Described) -> Value| match images {
        [only] => part(only),
        several => several
            .iter()
            .map(|image| (image.platform.to_string(), part(image)))
            .collect::<Map<_, _>>()
            .into(),
    };
    value["image"] = of(|image| image.config.clone());
    value["provenance"] = of(|image| attested(image, "https://slsa.dev/provenance/", "SLSA"));
    value["sbom"] = of(|image| attested(image, "https://spdx.dev/Document", "SPDX"));
    value
}

/// An attestation of an image, under buildx's name for it; empty if there is none.
fn attested(image: &Described, kind: &str, name: &str) -> Value {
    let of_kind = |(known, _): &&(String, Value)| known.starts_with(kind);
    match image.attestations.iter().find(of_kind) {
        Some((_, predicate)) => json!({ name: predicate }),
        None => json!({}),
    }
}

/// The output without a template.
fn shown(name: &Reference, descriptor: &Descriptor, index: Option<&Index>) -> String {
    let mut text = format!(
        "Name:      {name}\nMediaType: {}\nDigest:    {}\n",
        descriptor.media_type, descriptor.digest
    );
    let Some(index) = index else { return text };
    text.push_str("\nManifests:\n");
    for manifest in &index.manifests {
        let one = name.with_digest(manifest.digest);
        text.push_str(&format!("  Name:      {one}\n  MediaType: {}\n", manifest.media_type));
        if let Some(platform) = &manifest.platform {
            text.push_str(&format!("  Platform:  {platform}\n"));
        }
        if !manifest.annotations.is_empty() {
            text.push_str("  Annotations:\n");
        }
        for (key, value) in &manifest.annotations {
            text.push_str(&format!("    {key}: {value}\n"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use oci::Digest;

    use super::*;

    fn descriptor(kind: &str, content: &str) -> Descriptor {
        Descriptor::of(kind, content.as_bytes())
    }

    #[test]
    fn sources_are_names_digests_and_descriptors() {
        let names = ["reg.io/app:1".parse().unwrap()];
        let digest = Digest::of("x");
        let shown = |text: &str| source(text, &names).unwrap().to_string();
        assert_eq!(shown("reg.io/other:2"), "reg.io/other:2");
        assert_eq!(shown(&digest.to_string()), format!("reg.io/app@{digest}"));
        let json = serde_json::to_string(&descriptor(media_type::OCI_MANIFEST, "x")).unwrap();
        assert_eq!(shown(&json), format!("reg.io/app@{digest}"));
        assert!(source(&digest.to_string(), &[]).unwrap_err().message.contains("--tag"));
        assert!(source("{}", &names).unwrap_err().message.contains("no descriptor"));
    }

    #[test]
    fn templates_see_what_buildx_shows_them() {
        let name = "reg.io/app:1".parse().unwrap();
        let config = json!({"config": {"Labels": {"a": "b"}}, "rootfs": {"diff_ids": ["x"]}});
        let slsa = ("https://slsa.dev/provenance/v1".to_owned(), json!({"runDetails": 1}));
        let image = |platform: &str| Described {
            platform: platform.parse().unwrap(),
            config: config.clone(),
            attestations: vec![slsa.clone()],
        };
        let kind = descriptor(media_type::OCI_MANIFEST, "{}");
        let render = |template: &str, images: &[Described]| {
            let value = value(&name, &kind, b"{}", images);
            Template::parse(template).unwrap().render(&value).unwrap()
        };
        let one = [image("linux/amd64")];
        let two = [image("linux/amd64"), image("linux/arm64")];
        assert_eq!(render("{{.Name}} {{.Manifest.Size}}", &one), "reg.io/app:1 2");
        assert_eq!(
            render("{{.Image.Config.Labels}}{{.Image.RootFS.DiffIDs}}", &one),
            "map[a:b][x]"
        );
        assert_eq!(render("{{json .Provenance.SLSA}}{{json .SBOM}}", &one), "{\"runDetails\":1}{}");
        assert_eq!(render("{{(index .Image \"linux/arm64\").Config.Labels}}", &two), "map[a:b]");
        let whole = TemplateNeeds::of("{{json .}}");
        assert!(whole.images && whole.attestations);
        let cheap = TemplateNeeds::of("{{json .Manifest}}");
        assert!(!cheap.images && !cheap.attestations);
        assert!(
            TemplateNeeds::of("{{ .SBOM }}").attestations
                && !TemplateNeeds::of("{{.Image}}").attestations
        );
    }

    #[test]
    fn an_index_is_annotated_and_kept_to_platforms() {
        let member = |platform: &str| Member {
            repository: "reg.io/app".parse::<Reference>().unwrap().repository().clone(),
            descriptor: Descriptor {
                platform: Some(platform.parse().unwrap()),
                ..descriptor(media_type::OCI_MANIFEST, platform)
            },
        };
        let mut content = IndexContent {
            members: vec![member("linux/amd64"), member("linux/arm64"), member("linux/s390x")],
            ..IndexContent::default()
        };
        let mut attests = member("unknown/unknown");
        attests.descriptor.annotations.insert(
            "vnd.docker.reference.digest".into(),
            content.members[1].descriptor.digest.to_string(),
        );
        content.members.push(attests);
        let read = |text: &str| annotations(text).unwrap();
        let plan = Plan {
            names: Vec::new(),
            sources: Vec::new(),
            platforms: vec!["linux/arm64".parse().unwrap(), "linux/s390x".parse().unwrap()],
            annotations: [
                read("index:a=b"),
                read("manifest-descriptor:c=d"),
                read("manifest-descriptor[linux/arm64]:e=f"),
            ]
            .concat(),
            keeps_image: true,
        };
        plan.shape(&mut content);
        let kept: Vec<usize> =
            content.members.iter().map(|one| one.descriptor.annotations.len()).collect();
        assert_eq!(kept, [2, 1, 2]);
        assert_eq!(content.annotations["a"], "b");
        assert!(plan.lone(&content).is_none());
    }
}
