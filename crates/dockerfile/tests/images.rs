//! Dockerfiles with BuildKit's config, history or refusal for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use dockerfile::{
    Dockerfile, Error, ImageLookupError, ImageRequest, Images, LowerRequest, Lowered, Lowering,
    ResolvedImage, ignore_patterns,
};
use graph::{ImageSource, SourceFile};
use oci::{Digest, History, ImageConfig, Platform};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Case {
    name: String,
    dockerfile: Option<String>,
    #[serde(default)]
    args: BTreeMap<String, String>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    opts: BTreeMap<String, String>,
    #[serde(default)]
    ignore: Option<String>,
    error: Option<String>,
    config: Option<Value>,
    /// The text, true if there is no layer, and the time if one is set.
    history: Option<Vec<Value>>,
    layers: Option<usize>,
}

/// Refusals that need a build, by their cause.
const RUNTIME: &[(&str, &[&str])] = &[
    (
        "a command fails",
        &[
            "351-err-from-scratch-run",
            "392-err-run-exit-code",
            "393-err-run-not-found-exec",
            "394-err-run-not-found-shell",
            "395-err-run-killed",
            "396-err-run-user-unknown",
            "397-err-run-group-unknown",
            "416-err-mount-write-readonly",
            "433-err-user-two",
            "448-err-failure-in-needed-stage",
            "449-err-mount-quoted-flag",
            "456-err-run-heredoc-failing",
        ],
    ),
    (
        "a path is missing or of another type",
        &[
            "335-err-add-tar-through-symlink",
            "357-err-copy-missing-source",
            "358-err-copy-missing-in-stage",
            "366-err-copy-ignored-source",
            "367-err-copy-dir-over-file",
            "368-err-copy-parent-is-file",
            "369-err-copy-file-over-dir-in-tree",
            "370-err-copy-dir-over-file-in-tree",
            "371-err-copy-dotdot-symlink",
            "376-err-add-missing",
            "377-err-add-corrupt-gzip",
            "409-err-mount-source-missing",
            "437-err-workdir-over-file",
        ],
    ),
    (
        "the caller lends no secret or agent",
        &["410-err-mount-secret-required", "411-err-mount-ssh-required"],
    ),
    ("the file is missing", &["446-err-dockerfile-missing"]),
];

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("vectors/images.json")).expect("a vector")
}

fn base() -> ImageConfig {
    let mut config =
        ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    config.config.env =
        vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()];
    config.config.cmd = Some(vec!["sh".into()]);
    config.rootfs.diff_ids = vec![Digest::of("layer")];
    config.history = vec![History { created_by: "base".into(), ..History::default() }];
    config
}

fn look_up(request: &ImageRequest) -> Result<ResolvedImage, ImageLookupError> {
    if request.reference.repository().path() != "library/busybox" {
        return Err(ImageLookupError::new("not found"));
    }
    let config = base();
    Ok(ResolvedImage {
        source: ImageSource {
            reference: request.reference.with_digest(Digest::of("index")),
            platform: request.platform.clone(),
            manifest: Digest::of("manifest"),
            diff_ids: config.rootfs.diff_ids.clone(),
        },
        config,
    })
}

fn request(case: &Case) -> LowerRequest {
    let mut request = LowerRequest::new(Platform::new("linux", "amd64", ""));
    request.target.clone_from(&case.target);
    request.build_args = case.args.clone().into_iter().collect();
    for (option, value) in &case.opts {
        match (option.strip_prefix("label:"), option.as_str(), value.split_once('=')) {
            (Some(name), _, _) => request.labels.push((name.into(), value.clone())),
            (_, "add-hosts", Some((name, address))) => {
                request.extra_hosts.push((name.into(), address.into()));
            }
            _ => panic!("option {option}"),
        }
    }
    request.excludes = case.ignore.as_deref().map(ignore_patterns).unwrap_or_default();
    request
}

fn lower(case: &Case) -> Result<Lowered, Error> {
    let text: Arc<str> = case.dockerfile.as_deref().expect("a vector").into();
    let file = Dockerfile::parse(SourceFile { name: "Dockerfile".into(), text })?;
    let request = request(case);
    let mut images = Images::new();
    loop {
        match file.lower(&request, &images)? {
            Lowering::Needs(needs) => {
                assert!(!needs.is_empty());
                for need in needs {
                    assert!(images.get(&need).is_none(), "asked twice: {need:?}");
                    images.insert(&need, look_up(&need));
                }
            }
            Lowering::Done(lowered) => return Ok(*lowered),
        }
    }
}

/// The config as the vectors write it: empty fields left out, some outer fields inside.
fn config_value(image: &ImageConfig) -> Value {
    let mut value = serde_json::to_value(&image.config).expect("a vector");
    let fields = value.as_object_mut().expect("a vector");
    let mut outer = vec![("os", json!(image.os)), ("architecture", json!(image.architecture))];
    if !image.author.is_empty() {
        outer.push(("author", json!(image.author)));
    }
    if let Some(created) = &image.created {
        outer.push(("created", json!(created)));
    }
    fields.extend(outer.into_iter().map(|(name, value)| (name.to_owned(), value)));
    value
}

fn history_value(lowered: &Lowered, base_entries: usize) -> Vec<Value> {
    let entries = lowered.config.history.iter().skip(base_entries);
    let value = |entry: &History| {
        assert_eq!(entry.comment, "buildkit.dockerfile.v0");
        let mut value = vec![json!(entry.created_by), json!(entry.empty_layer)];
        value.extend(entry.created.as_ref().map(|created| json!(created)));
        Value::Array(value)
    };
    entries.map(value).collect()
}

#[test]
fn images_get_buildkits_config_and_history() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in cases().iter().filter(|case| case.error.is_none()) {
        count += 1;
        let lowered = match lower(case) {
            Ok(lowered) => lowered,
            Err(error) => {
                wrong.push(format!("{}: refused: {error}", case.name));
                continue;
            }
        };
        let config = config_value(&lowered.config);
        if Some(&config) != case.config.as_ref() {
            wrong.push(format!(
                "{}: {config}\n  not {}",
                case.name,
                case.config.as_ref().expect("a vector")
            ));
        }
        let base_entries = usize::from(lowered.base.is_some());
        let history = history_value(&lowered, base_entries);
        if Some(&history) != case.history.as_ref() {
            let expected = case.history.as_ref().expect("a vector");
            wrong.push(format!("{}: {history:#?}\n  not {expected:#?}", case.name));
        }
        let layers = lowered.history_layers.len();
        if Some(layers) != case.layers {
            wrong.push(format!("{}: {layers} layers, not {:?}", case.name, case.layers));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(count, 333);
}

#[test]
fn what_buildkit_refuses_is_refused() {
    let left_out: Vec<&str> = RUNTIME.iter().flat_map(|(_, names)| *names).copied().collect();
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in cases().iter().filter(|case| case.error.is_some()) {
        if left_out.contains(&case.name.as_str()) {
            continue;
        }
        count += 1;
        let expected = case.error.as_deref().expect("a vector");
        match lower(case) {
            Ok(_) => wrong.push(format!("{}: accepted, not: {expected}", case.name)),
            Err(error) => println!("{}: {:?} {error}\n    {expected}", case.name, error.lines),
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(count + left_out.len(), 125);
}

#[test]
fn refusals_of_running_lower() {
    let left_out: Vec<&str> = RUNTIME.iter().flat_map(|(_, names)| *names).copied().collect();
    for case in cases() {
        if left_out.contains(&case.name.as_str()) && case.dockerfile.is_some() {
            lower(&case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        }
    }
}
