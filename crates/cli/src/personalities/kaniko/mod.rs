//! kaniko's `executor` and `warmer`.
//!
//! A line of flags becomes a line of `kiln build`. Images, digests and names come out as with
//! kaniko; the build does not touch the files of the container around it, and the cache is
//! BuildKit's (one tag) instead of an image per step.

mod bucket;
mod rows;
mod warmer;

use std::path::{Path, PathBuf};

use build::Outcome;
use oci::{Digest, Reference};

use super::flags::{self, Given, Operands, Verdict};
use super::{Invocation, NO_POLICY, build_args, field, helped, say_notes, usage, word};
use crate::args::{ContextFlag, Engine};
use crate::commands;
use crate::render::{Report, write_file};
use crate::settings::{Environment, RegistrySetting, Settings};
use crate::terminal;

pub use rows::{EXECUTOR, WARMER, is_outside};
pub use warmer::run as run_warmer;

/// A build as kaniko was asked for it.
#[derive(Debug, Default)]
struct Plan {
    /// The words of `kiln build`.
    words: Vec<String>,
    registries: Registries,
    /// Files that get the digest.
    digest_files: Vec<(PathBuf, DigestLine)>,
    destinations: Vec<Reference>,
    notes: Vec<String>,
    cache_folder: Option<PathBuf>,
    /// An archive that is the context.
    input: Option<PathBuf>,
    /// The same in an object store.
    object: Option<bucket::Object>,
    kaniko_folder: PathBuf,
    is_debug: bool,
    /// Variables that secrets are made of.
    variables: Vec<(&'static str, String)>,
}

/// What flags say of registries.
#[derive(Debug, Default, PartialEq)]
struct Registries {
    mirrors: Vec<(String, String)>,
    insecure: Vec<String>,
    all_insecure: bool,
    settings: Vec<RegistrySetting>,
}

/// What a digest file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DigestLine {
    Digest,
    Name,
    NameAndTag,
}

/// Builds as `executor` does.
///
/// # Errors
/// What is wrong with a flag, the Dockerfile or a step.
pub fn run(invocation: &Invocation, mut environment: Environment) -> Result<(), Report> {
    match invocation.words.first().map(String::as_str) {
        Some("version") => {
            return terminal::print(&format!(
                "Kaniko version :  v1.24.0+{}",
                commands::version::text()
            ));
        }
        Some("help" | "--help" | "-h") => {
            let about =
                "kaniko's executor, spoken by kiln: builds a Dockerfile and pushes the image.";
            return helped(&flags::help(
                "executor --context DIR --destination IMAGE",
                about,
                EXECUTOR,
            ));
        }
        _ => {}
    }
    let directory = std::env::current_dir()
        .map_err(|error| format!("finding the working directory: {error}"))?;
    let plan = translate(&invocation.words, &environment, &directory)
        .map_err(|error| usage(error, None, 1))?;
    say_notes(&plan.notes);
    let folder = plan.kaniko_folder.join(".docker");
    if environment.get("DOCKER_CONFIG").is_none() && folder.is_dir() {
        environment.set("DOCKER_CONFIG", &folder.to_string_lossy());
    }
    for (name, value) in &plan.variables {
        environment.set(name, value);
    }
    let mut settings = invocation.settings(&environment)?;
    plan.registries.apply(&mut settings);
    if let Some(root) = plan.cache_folder.as_deref().and_then(warmer::usable_root)
        && invocation.root.is_none()
    {
        settings.root = root;
    }
    let fetched = match &plan.object {
        Some(object) => Some(object.fetch(&environment, &settings)?),
        None => None,
    };
    let args = build_args([vec![NO_POLICY.into()], plan.words.clone()].concat(), 1)?;
    let mut flags = commands::build::read(&args, Engine::Docker, &environment, &settings)?;
    let archive = fetched.as_ref().map(bucket::Fetched::path).or(plan.input.as_deref());
    if let Some(path) = archive {
        flags.context = ContextFlag::Archive(path.to_owned());
    }
    let outcome =
        commands::build::execute(flags, &environment, &settings).map_err(|mut report| {
            if plan.is_debug {
                report.message.push_str(&crate::machine::description());
            }
            report
        })?;
    match outcome {
        Some(outcome) => plan.finish(&outcome, &environment),
        None => Ok(()),
    }
}

/// Makes words of `kiln build`.
fn translate(
    words: &[String],
    environment: &Environment,
    directory: &Path,
) -> Result<Plan, String> {
    let given = flags::read(EXECUTOR, words, Operands::Anywhere)?;
    if let Some(word) = given.operands.first() {
        return Err(format!("`{word}` belongs to no flag: values are written as `--name=value`"));
    }
    let mut plan = Plan {
        registries: Registries::read(&given, environment)?,
        cache_folder: given.last("cache-dir").or(Some("/cache")).map(PathBuf::from),
        kaniko_folder: given
            .last("kaniko-dir")
            .or_else(|| environment.get("KANIKO_DIR"))
            .unwrap_or("/kaniko")
            .into(),
        is_debug: matches!(given.last("verbosity"), Some("debug" | "trace")),
        ..Plan::default()
    };
    for name in given.all("destination") {
        let reference: Reference =
            name.parse().map_err(|error| format!("`--destination={name}`: {error}"))?;
        plan.destinations.push(reference);
        plan.words.push(word("tag", name));
    }
    plan.words.push(format!("--progress={}", progress(&given)?));
    let context = source(&given, environment, directory, &mut plan)?;
    for argument in given.all("build-arg") {
        // Without a value, kaniko takes the environment's, or an empty one.
        match argument.contains('=') {
            true => plan.words.push(word("build-arg", argument)),
            false => {
                let value = environment.raw(argument).unwrap_or_default();
                plan.words.push(format!("--build-arg={argument}={value}"));
            }
        }
    }
    for (flag, own) in [
        ("target", "target"),
        ("custom-platform", "platform"),
        ("label", "label"),
        ("annotation", "annotation"),
        ("secret", "secret"),
    ] {
        plan.words.extend(given.all(flag).into_iter().map(|value| word(own, value)));
    }
    // kaniko asks the registry for a base's digest in every build.
    plan.words.push("--pull".into());
    outputs(&given, environment, &mut plan)?;
    cache(&given, &context, &mut plan)?;
    for (flag, line) in [
        ("digest-file", DigestLine::Digest),
        ("image-name-with-digest-file", DigestLine::Name),
        ("image-name-tag-with-digest-file", DigestLine::NameAndTag),
    ] {
        if let Some(path) = given.last(flag) {
            if line != DigestLine::Digest && plan.destinations.is_empty() {
                return Err(format!("`--{flag}` needs `--destination`, whose name it writes"));
            }
            plan.digest_files.push((directory.join(path), line));
        }
    }
    plan.words.push(context);
    given.done()?;
    plan.notes = given.notes;
    Ok(plan)
}

/// How progress is shown.
fn progress(given: &Given) -> Result<&'static str, String> {
    let format = match given.last("log-format") {
        None | Some("color") => "auto",
        Some("text") => "plain",
        Some("json") => "rawjson",
        Some(other) => {
            return Err(format!("`--log-format={other}`: there are text, color and json"));
        }
    };
    match given.last("verbosity") {
        None | Some("trace" | "debug" | "info" | "warn" | "warning") => Ok(format),
        Some("error" | "fatal" | "panic") => Ok("none"),
        Some(other) => Err(format!(
            "`--verbosity={other}`: there are trace, debug, info, warn, error, fatal and panic"
        )),
    }
}

/// What becomes of `--git`.
fn git_option(text: &str) -> Verdict {
    for option in text.split(',') {
        match option.split('=').next().unwrap_or_default() {
            "branch" | "single-branch" | "recurse-submodules" | "depth" => {}
            "insecure-skip-tls" if option.ends_with("=false") => {}
            "insecure-skip-tls" => {
                return Verdict::Refuse(
                    "a repository's certificate is always checked: add its authority to SSL_CERT_FILE",
                );
            }
            _ => {
                return Verdict::Refuse(
                    "there are branch, single-branch, recurse-submodules and depth",
                );
            }
        }
    }
    Verdict::Take
}

/// The context, as `kiln build` takes it; the Dockerfile goes to the plan.
fn source(
    given: &Given,
    environment: &Environment,
    directory: &Path,
    plan: &mut Plan,
) -> Result<String, String> {
    let text = given.last("context").unwrap_or("/workspace/");
    let sub = given.last("context-sub-path").map(|sub| sub.trim_matches('/'));
    let branch = given
        .all("git")
        .into_iter()
        .flat_map(|text| text.split(','))
        .find_map(|option| option.strip_prefix("branch="));
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    plan.object = bucket::Object::of(text, environment, directory)?;
    let context = match scheme {
        _ if plan.object.is_some() => no_sub("-".into(), sub, text)?,
        Some("git") => {
            let (words, variables) = git_secrets(environment);
            plan.words.extend(words);
            plan.variables.extend(variables);
            git(text, branch, sub)
        }
        Some("tar") if text == "tar://stdin" => no_sub("-".into(), sub, text)?,
        Some("tar") => {
            plan.input = Some(directory.join(text.trim_start_matches("tar://")));
            no_sub("-".into(), sub, text)?
        }
        Some("http" | "https") => no_sub(text.to_owned(), sub, text)?,
        Some("dir") | None => {
            let path = directory.join(text.trim_start_matches("dir://"));
            let path = sub.map_or_else(|| path.clone(), |sub| path.join(sub));
            path.to_string_lossy().into_owned()
        }
        Some(other) => {
            return Err(format!(
                "`--context={text}`: `{other}://` is none of dir, tar, git, https, s3, gs"
            ));
        }
    };
    let is_folder = matches!(scheme, Some("dir") | None);
    if let Some(file) = given.last("dockerfile").or(is_folder.then_some("Dockerfile")) {
        let is_here = directory.join(file).is_file();
        let file = match is_folder && !is_here && !file.contains("://") {
            true => Path::new(&context).join(file).to_string_lossy().into_owned(),
            false => file.to_owned(),
        };
        plan.words.push(word("file", &file));
    }
    Ok(context)
}

fn no_sub(context: String, sub: Option<&str>, text: &str) -> Result<String, String> {
    match sub {
        None => Ok(context),
        Some(_) => Err(format!(
            "`--context-sub-path`: it is for folders and git; unpack `{text}` and give the folder"
        )),
    }
}

/// `git://host/repository#ref#commit` as BuildKit writes it: `https://host/repository.git#ref:sub`.
fn git(text: &str, branch: Option<&str>, sub: Option<&str>) -> String {
    let mut parts = text.trim_start_matches("git://").split('#');
    let repository = parts.next().unwrap_or_default().trim_end_matches('/');
    let reference =
        parts.next_back().filter(|part| !part.is_empty()).or(branch).unwrap_or_default();
    let end = if repository.ends_with(".git") { "" } else { ".git" };
    let mut context = format!("https://{repository}{end}");
    if !reference.is_empty() || sub.is_some() {
        context.push('#');
        context.push_str(reference);
    }
    if let Some(sub) = sub {
        context.push(':');
        context.push_str(sub);
    }
    context
}

/// `GIT_TOKEN`, or `GIT_USERNAME` with `GIT_PASSWORD`, as the secrets that git sources look for.
fn git_secrets(environment: &Environment) -> (Vec<String>, Vec<(&'static str, String)>) {
    use base64::Engine as _;
    if environment.get("GIT_TOKEN").is_some() {
        return (vec!["--secret=id=GIT_AUTH_TOKEN,env=GIT_TOKEN".into()], Vec::new());
    }
    let (Some(user), Some(password)) =
        (environment.get("GIT_USERNAME"), environment.get("GIT_PASSWORD"))
    else {
        return (Vec::new(), Vec::new());
    };
    let login = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let secret = "--secret=id=GIT_AUTH_HEADER,env=KILN_GIT_AUTH_HEADER".to_owned();
    (vec![secret], vec![("KILN_GIT_AUTH_HEADER", format!("basic {login}"))])
}

/// What is made of the result: the image, an archive, a layout.
fn outputs(given: &Given, environment: &Environment, plan: &mut Plan) -> Result<(), String> {
    let no_push = environment.get("KANIKO_NO_PUSH").is_some_and(|value| value != "false");
    let push = !given.is_on("no-push", no_push);
    if push && plan.destinations.is_empty() {
        return Err("`--destination` is missing: give the image's name, or `--no-push`".into());
    }
    let mut options = Vec::new();
    if let Some(kind) = given.last("compression") {
        options.push(field("compression", kind));
    }
    if let Some(level) = given.last("compression-level").filter(|level| *level != "-1") {
        options.push(field("compression-level", level));
    }
    match given.last("image-format") {
        None => {}
        Some("oci") => options.push("oci-mediatypes=true".into()),
        Some("docker") => options.push("oci-mediatypes=false".into()),
        Some(other) => return Err(format!("`--image-format={other}`: there are oci and docker")),
    }
    if given.is_on("single-snapshot", false) {
        plan.words.push("--layers=one".into());
    }
    if given.is_on("skip-push-permission-check", false) {
        plan.words.push("--push-check=false".into());
    }
    if given.is_on("reproducible", false) {
        plan.words.push("--build-arg=SOURCE_DATE_EPOCH=0".into());
        options.push("rewrite-timestamp=true".into());
    }
    let mut output = |kind: &str, own: &[String]| {
        let fields = [&[kind.to_owned()], own, &options].concat();
        plan.words.push(word("output", &fields.join(",")));
    };
    let store = format!("store={}", !push);
    output("type=image", &[format!("push={push}"), store]);
    if let Some(path) = given.last("tar-path") {
        output("type=docker", &[field("dest", path)]);
    }
    if let Some(path) = given.last("oci-layout-path") {
        output("type=oci", &[field("dest", path), "tar=false".into()]);
    }
    if given.last("tar-path").is_some() && plan.destinations.is_empty() {
        return Err("`--tar-path` needs `--destination`, the image's name in the archive".into());
    }
    // Without a push there is nothing that they could be for.
    if is_insecure(given) && push {
        let hosts = plan.destinations.iter().map(|name| name.repository().host().to_owned());
        plan.registries.insecure.extend(hosts);
    }
    Ok(())
}

/// Whether registries that are written to may be insecure, by either flag.
fn is_insecure(given: &Given) -> bool {
    // Both are read: what nobody reads has no meaning.
    let flags = ["insecure", "skip-tls-verify"].map(|flag| given.is_on(flag, false));
    flags.contains(&true)
}

/// `--cache` and what belongs to it.
fn cache(given: &Given, context: &str, plan: &mut Plan) -> Result<(), String> {
    let repository = given.last("cache-repo").map(str::to_owned);
    let ttl = given.last("cache-ttl").map(seconds).transpose()?;
    let no_push_cache = given.is_on("no-push-cache", false);
    if !given.is_on("cache", false) {
        return Ok(());
    }
    let destination = plan.destinations.first();
    let repository = match (repository, destination) {
        (Some(repository), _) => repository,
        (None, Some(name)) => format!("{}/cache", name.repository()),
        (None, None) => {
            return Err("`--cache` without `--destination` needs `--cache-repo`".into());
        }
    };
    // The same build has the same tag on every machine; others in one repository do not meet.
    let whose = match destination {
        Some(name) => name.repository().to_string(),
        None => context.to_owned(),
    };
    let parts = [
        whose.as_str(),
        given.last("dockerfile").unwrap_or("Dockerfile"),
        given.last("target").unwrap_or_default(),
    ];
    let mut tag = format!("kiln-{}", &Digest::of(parts.join("\0")).hex()[..12]);
    if let Some(ttl) = ttl {
        let now = jiff::Timestamp::now().as_second();
        tag.push_str(&format!("-{}", now / ttl));
    }
    let (from, to) = match repository.strip_prefix("oci:") {
        Some(folder) => (
            ["type=local".into(), field("src", folder), field("tag", &tag)].join(","),
            ["type=local".into(), field("dest", folder), field("tag", &tag)].join(","),
        ),
        None => {
            let reference = format!("{repository}:{tag}");
            let place = ["type=registry".to_owned(), field("ref", &reference)].join(",");
            if is_insecure(given) {
                let reference: Reference = reference
                    .parse()
                    .map_err(|error| format!("`--cache-repo={repository}`: {error}"))?;
                plan.registries.insecure.push(reference.repository().host().to_owned());
            }
            (place.clone(), place)
        }
    };
    plan.words.push(word("cache-from", &from));
    if !no_push_cache {
        // As with kaniko, an image is good without its cache.
        plan.words.push(format!("--cache-to={to},mode=max,ignore-error=true"));
    }
    Ok(())
}

/// A Go duration of at least a minute, in seconds: `336h`, `1h30m`.
fn seconds(text: &str) -> Result<i64, String> {
    let wrong = || format!("`--cache-ttl={text}`: it is not a time of a minute or more, as 336h");
    let (mut total, mut number) = (0_i64, String::new());
    for letter in text.chars() {
        match letter {
            '0'..='9' => number.push(letter),
            'h' | 'm' | 's' => {
                let factor = match letter {
                    'h' => 3600,
                    'm' => 60,
                    _ => 1,
                };
                let value: i64 = number.parse().map_err(|_| wrong())?;
                total = value
                    .checked_mul(factor)
                    .and_then(|v| total.checked_add(v))
                    .ok_or_else(wrong)?;
                number.clear();
            }
            _ => return Err(wrong()),
        }
    }
    match number.is_empty() && total >= 60 {
        true => Ok(total),
        false => Err(wrong()),
    }
}

impl Registries {
    fn read(given: &Given, environment: &Environment) -> Result<Self, String> {
        let mut own = Self {
            all_insecure: ["insecure-pull", "skip-tls-verify-pull"]
                .map(|flag| given.is_on(flag, false))
                .contains(&true),
            ..Self::default()
        };
        // Reads both, whatever the first says.
        let _ = given.has("skip-tls-verify-pull");
        for flag in ["insecure-registry", "skip-tls-verify-registry"] {
            own.insecure.extend(given.all(flag).into_iter().map(str::to_owned));
        }
        let mirrors = given.all("registry-mirror").into_iter();
        for mirror in mirrors.chain(environment.get("KANIKO_REGISTRY_MIRROR")) {
            let mirrors = mirror.split([',', ';']).map(str::trim).filter(|text| !text.is_empty());
            own.mirrors.extend(mirrors.map(|mirror| ("docker.io".to_owned(), mirror.to_owned())));
        }
        let maps = given.all("registry-map").into_iter();
        for text in maps.chain(environment.get("KANIKO_REGISTRY_MAP")) {
            for pair in text.split(';').filter(|pair| !pair.is_empty()) {
                let (registry, mirror) = pair.split_once('=').ok_or_else(|| {
                    format!("`--registry-map={text}`: `{pair}` is not REGISTRY=MIRROR")
                })?;
                own.mirrors.push((registry.into(), mirror.into()));
            }
        }
        for text in given.all("registry-certificate") {
            let (host, path) = of_host("registry-certificate", text, "HOST=FILE")?;
            let authorities = vec![path.into()];
            own.settings.push(RegistrySetting { host, authorities, ..RegistrySetting::default() });
        }
        for text in given.all("registry-client-cert") {
            let wanted = "HOST=CERTIFICATE,KEY";
            let (host, files) = of_host("registry-client-cert", text, wanted)?;
            let (certificate, key) = files
                .split_once(',')
                .ok_or_else(|| format!("`--registry-client-cert={text}`: it is not {wanted}"))?;
            let client_certificate = Some((certificate.into(), key.into()));
            own.settings.push(RegistrySetting {
                host,
                client_certificate,
                ..RegistrySetting::default()
            });
        }
        Ok(own)
    }

    fn apply(&self, settings: &mut Settings) {
        settings.mirrors.extend(self.mirrors.iter().cloned());
        settings.insecure_registries.extend(self.insecure.iter().cloned());
        settings.registries.extend(self.settings.iter().cloned());
        settings.insecure |= self.all_insecure;
    }
}

fn of_host<'t>(flag: &str, text: &'t str, wanted: &str) -> Result<(String, &'t str), String> {
    match text.split_once('=') {
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => Ok((host.into(), rest)),
        _ => Err(format!("`--{flag}={text}`: it is not {wanted}")),
    }
}

impl Plan {
    /// The files that kaniko writes at the end.
    fn finish(&self, outcome: &Outcome, environment: &Environment) -> Result<(), Report> {
        let Some(image) = &outcome.image else { return Ok(()) };
        let digest = image.descriptor.digest;
        for (path, line) in &self.digest_files {
            let named = |with_tag: bool| -> String {
                let lines = self.destinations.iter().map(|destination| {
                    let tag = match with_tag {
                        true => format!(":{}", destination.tag().unwrap_or("latest")),
                        false => String::new(),
                    };
                    format!("{}{tag}@{digest}\n", canonical(destination))
                });
                lines.collect()
            };
            let text = match line {
                DigestLine::Digest => digest.to_string(),
                DigestLine::Name => named(false),
                DigestLine::NameAndTag => named(true),
            };
            write_file(path, &text)?;
        }
        // Skaffold and Cloud Build look here.
        if let Some(folder) = environment.get("BUILDER_OUTPUT") {
            let lines = self.destinations.iter().map(|destination| {
                let tag = destination.tag().unwrap_or("latest");
                let name = format!("{}:{tag}", canonical(destination));
                format!("{}\n", serde_json::json!({ "name": name, "digest": digest }))
            });
            write_file(&Path::new(folder).join("images"), &lines.collect::<String>())?;
        }
        Ok(())
    }
}

/// A repository's name as kaniko writes it.
fn canonical(name: &Reference) -> String {
    let repository = name.repository();
    match repository.host() {
        "docker.io" => format!("index.docker.io/{}", repository.path()),
        host => format!("{host}/{}", repository.path()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personalities::flags::testing::walk;

    fn planned(line: &str, environment: &Environment) -> Result<Plan, String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let here = tempfile::tempdir().unwrap();
        translate(&words, environment, here.path())
    }

    fn line(line: &str) -> String {
        planned(line, &Environment::default()).unwrap().words.join(" ")
    }

    #[test]
    fn every_flag_is_honoured_or_refused_by_name() {
        walk(EXECUTOR, |words| {
            let mut words = words.to_vec();
            words.extend(["--destination=app".into(), "--cache-repo=app/cache".into()]);
            let here = tempfile::tempdir().unwrap();
            translate(&words, &Environment::default(), here.path()).map(|plan| plan.notes)
        });
        walk(WARMER, |words| {
            warmer::translate(words, &Environment::default()).map(|plan| plan.notes)
        });
    }

    #[test]
    fn a_line_becomes_a_line_of_kiln() {
        assert_eq!(
            line(
                "--context dir:///src --dockerfile=app/Dockerfile -d r.example.com/app:1 --build-arg=A=b=c --target app"
            ),
            "--tag=r.example.com/app:1 --progress=auto --file=/src/app/Dockerfile --build-arg=A=b=c \
             --target=app --pull --output=type=image,push=true,store=false /src"
        );
        assert_eq!(
            line(
                "--no-push --destination=a --tarPath=/o.tar --oci-layout-path=/l --compression=zstd -v=error"
            ),
            "--tag=a --progress=none --file=/workspace/Dockerfile --pull \
             --output=type=image,push=false,store=true,compression=zstd \
             --output=type=docker,dest=/o.tar,compression=zstd \
             --output=type=oci,dest=/l,tar=false,compression=zstd /workspace/"
        );
        let environment = Environment::of(&[("B", "x"), ("KANIKO_NO_PUSH", "1")]);
        let words =
            planned("--build-arg B --build-arg C --log-format json", &environment).unwrap().words;
        assert!(
            words.contains(&"--build-arg=B=x".into()) && words.contains(&"--build-arg=C=".into())
        );
        assert!(words.contains(&"--progress=rawjson".into()));
    }

    #[test]
    fn a_cache_has_a_tag_of_its_own() {
        let one = line("-d r.example.com/app:1 --cache=true");
        let again = line("-d r.example.com/app:2 --cache --cache-copy-layers");
        let tag =
            |line: &str| line.split("ref=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        assert_eq!(tag(&one), tag(&again));
        assert!(tag(&one).starts_with("r.example.com/app/cache:kiln-"), "{one}");
        assert!(one.contains(",mode=max,ignore-error=true"), "{one}");
        let other =
            line("-d r.example.com/app:1 --cache --cache-repo=r.example.com/app/cache --target=x");
        assert_ne!(tag(&one), tag(&other));
        let read = line("-d app --cache --no-push-cache --cache-ttl=24h --cache-repo oci:/c");
        assert!(
            read.contains("--cache-from=type=local,src=/c,tag=kiln-")
                && !read.contains("--cache-to")
        );
        assert_eq!(seconds("1h30m"), Ok(5400));
        assert!(seconds("0").is_err() && seconds("5d").is_err());
    }

    #[test]
    fn contexts() {
        for (context, expected) in [
            ("tar://stdin", "-"),
            ("tar://a.tar.gz", "-"),
            ("gs://bucket/a.tar.gz", "-"),
            ("https://a.blob.core.windows.net/c/k", "https://a.blob.core.windows.net/c/k"),
            ("git://github.com/a/b#refs/heads/main", "https://github.com/a/b.git#refs/heads/main"),
            ("git://github.com/a/b.git#main#abc", "https://github.com/a/b.git#abc"),
            (
                "git://github.com/a/b --git=branch=dev --context-sub-path=/x/",
                "https://github.com/a/b.git#dev:x",
            ),
            ("https://example.com/a.tar.gz", "https://example.com/a.tar.gz"),
            ("/src --context-sub-path=a/b", "/src/a/b"),
        ] {
            let words = planned(&format!("-d app --context={context}"), &Environment::default());
            assert_eq!(
                words.unwrap().words.last().map(String::as_str),
                Some(expected),
                "{context}"
            );
        }
        for (context, word) in [("s3://b/k.tar.gz", "AWS_REGION"), ("ftp://x", "none of dir")] {
            let error = planned(&format!("-d app --context={context}"), &Environment::default());
            assert!(error.unwrap_err().contains(word), "{context}");
        }
        let login = Environment::of(&[("GIT_USERNAME", "u"), ("GIT_PASSWORD", "p4ss")]);
        let plan = planned("-d a -c git://h/r", &login).unwrap();
        assert!(plan.words.iter().all(|word| !word.contains("p4ss")), "{:?}", plan.words);
        assert_eq!(plan.variables.len(), 1);
    }

    #[test]
    fn registries() {
        let environment = Environment::of(&[("KANIKO_REGISTRY_MIRROR", "m1,m2")]);
        let plan = planned(
            "-d r:5000/a --insecure --registry-map=ghcr.io=m3;quay.io=m4 --skip-tls-verify-pull \
             --registry-certificate=h=/ca.pem --registry-client-cert=h=/c.pem,/k.pem --insecure-registry=i",
            &environment,
        )
        .unwrap();
        assert_eq!(plan.registries.mirrors.len(), 4);
        assert_eq!(plan.registries.insecure, ["i", "r:5000"]);
        assert!(plan.registries.all_insecure);
        assert_eq!(plan.registries.settings.len(), 2);
    }

    #[test]
    fn flags_that_are_honoured_go_together() {
        let switches: Vec<String> = EXECUTOR
            .iter()
            .filter(|row| row.takes == flags::Takes::Switch)
            .filter(|row| matches!(row.fate, flags::Fate::Honoured(_)))
            .map(|row| format!("--{}", row.name))
            .filter(|flag| flag != "--no-push")
            .collect();
        let line = format!("-d r:5000/a {}", switches.join(" "));
        planned(&line, &Environment::default()).unwrap();
        planned(&format!("{line} --no-push"), &Environment::default()).unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, word) in [
            ("--cache", "`--destination` is missing"),
            ("--no-push --cache", "needs `--cache-repo`"),
            ("--no-push --tar-path=a", "needs `--destination`"),
            ("-d a --ignore-path=/usr/lib", "--mount=type=tmpfs"),
            ("-d a --cache true", "`true` belongs to no flag"),
            ("-d a --snapshoot", "unknown flag: --snapshoot"),
            ("-d a --digest-file=https://x", "curl"),
            ("-d a --log-format=xml", "there are text"),
            ("-d a --image-format=x", "there are oci and docker"),
            ("-d a --cache-run-layers=false", "--no-cache-filter"),
            ("-d a --git=insecure-skip-tls=true", "always checked"),
        ] {
            let error = planned(line, &Environment::default()).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
