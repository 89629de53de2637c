//! The flags of kaniko's `executor` as flags of a build.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use build::{
    ArchiveOutput, BackendSettings, CacheFrom, CacheTarget, ImageFormat, ImageOptions, ImageOutput,
    Layers, LayoutSettings, Output, Policy, RegistrySettings, SecretValue,
};
use oci::{Digest, Reference};

use super::bucket::Object;
use super::options::progress;
use super::registries::Registries;
use crate::args::compound::{compression, destination};
use crate::args::{BuildFlags, ContextFlag, FlagContext, FlagError, InFlag as _};
use crate::personalities::flags::ParsedFlags;
use crate::settings::Environment;

/// A build in kaniko's terms.
#[derive(Debug, Default)]
pub struct ExecutorPlan {
    /// The flags of the build.
    pub flags: BuildFlags,
    /// The registries.
    pub registries: Registries,
    /// Files that the digest is written to, each with its form.
    pub digest_files: Vec<(PathBuf, DigestLine)>,
    /// Names of the image.
    pub destinations: Vec<Reference>,
    /// A context in an object store.
    pub object: Option<Object>,
}

/// The form of a line in a digest file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestLine {
    /// The digest alone.
    Digest,
    /// The image's name, then the digest.
    Name,
    /// The image's name with its tag, then the digest.
    NameAndTag,
}

/// Reads the flags of `executor`.
///
/// # Errors
/// If one is missing, wrong or refused.
pub fn translate(given: &ParsedFlags, context: FlagContext<'_>) -> Result<ExecutorPlan, FlagError> {
    if let Some(word) = given.operands.first() {
        let text = format!("`{word}` belongs to no flag: values are written as `--name=value`");
        return Err(FlagError::Usage(text));
    }
    let environment = context.environment;
    let registries = Registries::read(given, environment)?;
    let mut plan = ExecutorPlan { registries, ..ExecutorPlan::default() };
    // Policies are a feature of buildx, which kaniko does not have.
    plan.flags.policy = Policy::Disabled;
    for name in given.all("destination") {
        let flag = format!("--destination={name}");
        plan.destinations.push(name.parse::<Reference>().in_flag(&flag)?);
        plan.flags.add_tag(&flag, name)?;
    }
    plan.flags.progress = Some(progress(given)?);
    plan.read_source(given, context)?;
    plan.read_inputs(given, context)?;
    plan.read_outputs(given, context)?;
    plan.read_cache(given, context.directory)?;
    plan.read_digest_files(given, context.directory)?;
    // Read by the caller, before the flags of the build.
    for flag in ["kaniko-dir", "cache-dir", "verbosity"] {
        given.has(flag);
    }
    given.done()?;
    Ok(plan)
}

impl ExecutorPlan {
    fn read_inputs(
        &mut self,
        given: &ParsedFlags,
        context: FlagContext<'_>,
    ) -> Result<(), FlagError> {
        let flags = &mut self.flags;
        for argument in given.all("build-arg") {
            flags.set_build_argument("--build-arg", argument, context.environment)?;
            // kaniko passes an empty value if the environment has none.
            if !argument.contains('=') && context.environment.raw(argument).is_none() {
                flags.build_arguments.set(argument, Some(""));
            }
        }
        flags.target = given.last("target").map(str::to_owned);
        for text in given.all("custom-platform") {
            flags.add_platforms("--custom-platform", text)?;
        }
        flags.set_labels("--label", &given.texts("label"))?;
        for text in given.all("annotation").into_iter().filter(|text| !text.is_empty()) {
            flags.add_annotations("--annotation", text)?;
        }
        for text in given.all("secret").into_iter().filter(|text| !text.is_empty()) {
            flags.add_secret("--secret", text, context)?;
        }
        // kaniko asks the registry for a base's digest in every build.
        flags.pull = true;
        if given.is_on("single-snapshot", false) {
            flags.layers = Layers::One;
        }
        flags.skip_push_check = given.is_on("skip-push-permission-check", false);
        if given.is_on("reproducible", false) {
            flags.build_arguments.set("SOURCE_DATE_EPOCH", Some("0"));
        }
        Ok(())
    }

    /// Reads the context and the Dockerfile.
    fn read_source(
        &mut self,
        given: &ParsedFlags,
        around: FlagContext<'_>,
    ) -> Result<(), FlagError> {
        let FlagContext { environment, directory, .. } = around;
        let text = given.last("context").unwrap_or("/workspace/");
        let sub = given.last("context-sub-path").map(|sub| sub.trim_matches('/'));
        let mut options = given.all("git").into_iter().flat_map(|text| text.split(','));
        let branch = options.find_map(|option| option.strip_prefix("branch="));
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        self.object = Object::of(text, environment, directory)?;
        let named = |name: &str| ContextFlag::Named(name.to_owned());
        let context = match scheme {
            // The archive is fetched before the build.
            _ if self.object.is_some() => no_sub(named("-"), sub, text)?,
            Some("git") => {
                self.flags.secrets.extend(git_secret(environment));
                ContextFlag::Named(git(text, branch, sub))
            }
            Some("tar") if text == "tar://stdin" => no_sub(named("-"), sub, text)?,
            Some("tar") => {
                let path = directory.join(text.trim_start_matches("tar://"));
                no_sub(ContextFlag::Archive(path), sub, text)?
            }
            Some("http" | "https") => no_sub(named(text), sub, text)?,
            Some("dir") | None => {
                let path = directory.join(text.trim_start_matches("dir://"));
                let path = sub.map_or_else(|| path.clone(), |sub| path.join(sub));
                ContextFlag::Named(path.to_string_lossy().into_owned())
            }
            Some(other) => {
                let reason = format!("`{other}://` is none of dir, tar, git, https, s3, gs");
                return Err(FlagError::bad(format!("--context={text}"), reason));
            }
        };
        let folder = match (&context, scheme) {
            (ContextFlag::Named(folder), Some("dir") | None) => Some(Path::new(folder)),
            _ => None,
        };
        let file = given.last("dockerfile").or(folder.map(|_| "Dockerfile"));
        self.flags.file = file.map(|file| match folder {
            Some(folder) if !file.contains("://") && !directory.join(file).is_file() => {
                folder.join(file).to_string_lossy().into_owned()
            }
            _ => file.to_owned(),
        });
        self.flags.context = context;
        Ok(())
    }

    /// Reads the outputs: the image, an archive, a layout.
    fn read_outputs(
        &mut self,
        given: &ParsedFlags,
        context: FlagContext<'_>,
    ) -> Result<(), FlagError> {
        let no_push = context.environment.get("KANIKO_NO_PUSH");
        let push = !given.is_on("no-push", no_push.is_some_and(|value| value != "false"));
        if push && self.destinations.is_empty() {
            return Err(FlagError::Missing {
                flag: "--destination".into(),
                hint: "give the image's name, or `--no-push`".into(),
            });
        }
        let level = given.last("compression-level").filter(|level| *level != "-1");
        let compression = compression(given.last("compression"), level).in_flag("--compression")?;
        let oci_mediatypes = match given.last("image-format") {
            None => None,
            Some("oci") => Some(true),
            Some("docker") => Some(false),
            Some(other) => {
                let flag = format!("--image-format={other}");
                return Err(FlagError::bad(flag, "there are oci and docker"));
            }
        };
        let format = |usual: bool| ImageFormat {
            compression,
            force_compression: false,
            oci_mediatypes: oci_mediatypes.unwrap_or(usual),
        };
        let options = ImageOptions {
            rewrite_timestamp: given.is_on("reproducible", false),
            ..ImageOptions::default()
        };
        self.flags.outputs.push(Output::Image(ImageOutput {
            push,
            store: !push,
            format: format(true),
            options: options.clone(),
            ..ImageOutput::kept(Vec::new())
        }));
        let archive = |destination, tar: bool| ArchiveOutput {
            names: Vec::new(),
            destination: Some(destination),
            tar,
            format: format(!tar),
            options: options.clone(),
        };
        if let Some(path) = given.last("tar-path") {
            if self.destinations.is_empty() {
                return Err(FlagError::Requires {
                    flag: "--tar-path".into(),
                    other: "--destination",
                    reason: ", the image's name in the archive",
                });
            }
            let file = destination::file(path, context.output()).in_flag("--tar-path")?;
            self.flags.outputs.push(Output::Docker(archive(file, true)));
        }
        if let Some(path) = given.last("oci-layout-path") {
            let folder =
                destination::folder(path, context.output()).in_flag("--oci-layout-path")?;
            self.flags.outputs.push(Output::Oci(archive(folder, false)));
        }
        // The flags are about the registries of a push.
        if is_insecure(given) && push {
            let hosts = self.destinations.iter().map(|name| name.repository().host().to_owned());
            self.registries.insecure.extend(hosts);
        }
        Ok(())
    }

    /// Reads `--cache` and its related flags.
    fn read_cache(&mut self, given: &ParsedFlags, directory: &Path) -> Result<(), FlagError> {
        let repository = given.last("cache-repo").map(str::to_owned);
        let ttl = given.last("cache-ttl").map(seconds).transpose()?;
        let no_push_cache = given.is_on("no-push-cache", false);
        if !given.is_on("cache", false) {
            return Ok(());
        }
        let repository = match (repository, self.destinations.first()) {
            (Some(repository), _) => repository,
            (None, Some(name)) => format!("{}/cache", name.repository()),
            (None, None) => {
                let text = "`--cache` without `--destination` needs `--cache-repo`";
                return Err(FlagError::Usage(text.into()));
            }
        };
        let tag = self.cache_tag(given, ttl);
        let target = match repository.strip_prefix("oci:") {
            Some("") => return Err(FlagError::bad("--cache-repo=oci:", "the folder is missing")),
            Some(folder) => {
                let folder = directory.join(folder);
                BackendSettings::Layout(LayoutSettings { folder, tag, digest: None })
            }
            None => {
                let name = format!("{repository}:{tag}");
                let parsed = name.parse::<Reference>();
                let reference = parsed.in_flag(&format!("--cache-repo={repository}"))?;
                if is_insecure(given) {
                    self.registries.insecure.push(reference.repository().host().to_owned());
                }
                BackendSettings::Registry(RegistrySettings { reference, insecure: false })
            }
        };
        self.flags.cache_from.push(CacheFrom::new(target.clone()));
        if !no_push_cache {
            // In kaniko, too, an error of the cache does not fail the build.
            self.flags.add_optional_cache(CacheTarget::Backend(target));
        }
        Ok(())
    }

    /// The tag of a cache: the same for a build on every machine, and another for each other build
    /// in the repository.
    fn cache_tag(&self, given: &ParsedFlags, ttl: Option<i64>) -> String {
        let owner = match (self.destinations.first(), &self.flags.context) {
            (Some(name), _) => name.repository().to_string(),
            (None, ContextFlag::Named(context)) => context.clone(),
            (None, ContextFlag::Archive(_) | ContextFlag::Opened(..)) => "-".to_owned(),
        };
        let parts = [
            owner.as_str(),
            given.last("dockerfile").unwrap_or("Dockerfile"),
            given.last("target").unwrap_or_default(),
        ];
        let mut tag = format!("kiln-{}", &Digest::of(parts.join("\0")).hex()[..12]);
        if let Some(ttl) = ttl {
            let now = jiff::Timestamp::now().as_second();
            tag.push_str(&format!("-{}", now / ttl));
        }
        tag
    }

    fn read_digest_files(
        &mut self,
        given: &ParsedFlags,
        directory: &Path,
    ) -> Result<(), FlagError> {
        for (flag, line) in [
            ("digest-file", DigestLine::Digest),
            ("image-name-with-digest-file", DigestLine::Name),
            ("image-name-tag-with-digest-file", DigestLine::NameAndTag),
        ] {
            let Some(path) = given.last(flag) else { continue };
            if line != DigestLine::Digest && self.destinations.is_empty() {
                return Err(FlagError::Requires {
                    flag: format!("--{flag}"),
                    other: "--destination",
                    reason: ", whose name it writes",
                });
            }
            self.digest_files.push((directory.join(path), line));
        }
        Ok(())
    }
}

fn no_sub(context: ContextFlag, sub: Option<&str>, text: &str) -> Result<ContextFlag, FlagError> {
    match sub {
        None => Ok(context),
        Some(_) => Err(FlagError::bad(
            "--context-sub-path",
            format!("it is for folders and git; unpack `{text}` and give the folder"),
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

/// `GIT_TOKEN`, or `GIT_USERNAME` with `GIT_PASSWORD`, as the secret that git sources look for.
fn git_secret(environment: &Environment) -> Option<(String, SecretValue)> {
    if let Some(token) = environment.get("GIT_TOKEN") {
        return Some(("GIT_AUTH_TOKEN".into(), SecretValue::new(token.as_bytes())));
    }
    let (user, password) = (environment.get("GIT_USERNAME")?, environment.get("GIT_PASSWORD")?);
    let login = format!("basic {}", STANDARD.encode(format!("{user}:{password}")));
    Some(("GIT_AUTH_HEADER".into(), SecretValue::new(login.into_bytes())))
}

/// True if registries that are pushed to may be insecure, by either flag.
fn is_insecure(given: &ParsedFlags) -> bool {
    // Both are read: `ParsedFlags::done` refuses a flag that is not.
    let flags = ["insecure", "skip-tls-verify"].map(|flag| given.is_on(flag, false));
    flags.contains(&true)
}

/// A Go duration of at least a minute, in seconds: `336h`, `1h30m`.
fn seconds(text: &str) -> Result<i64, FlagError> {
    let wrong = || {
        let reason = "it is not a time of a minute or more, as 336h";
        FlagError::bad(format!("--cache-ttl={text}"), reason)
    };
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
    if number.is_empty() && total >= 60 { Ok(total) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use build::{CacheMode, Destination};
    use layer::Compression;

    use super::*;
    use crate::personalities::flags::testing::walk;
    use crate::personalities::flags::{self, Operands};
    use crate::personalities::kaniko::{EXECUTOR, WARMER, warmer};
    use crate::progress::ProgressMode;

    fn of(
        words: &[String],
        environment: &Environment,
    ) -> Result<(ExecutorPlan, Vec<String>), FlagError> {
        let here = tempfile::tempdir().unwrap();
        std::fs::write(here.path().join("f"), "hush").unwrap();
        let directory = here.path();
        let context = FlagContext { environment, directory, stdout_is_terminal: false };
        let given = flags::read(EXECUTOR, words, Operands::Anywhere)?;
        Ok((translate(&given, context)?, given.notes))
    }

    fn planned(line: &str, environment: &Environment) -> Result<ExecutorPlan, FlagError> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        of(&words, environment).map(|(plan, _)| plan)
    }

    fn read(line: &str) -> BuildFlags {
        planned(line, &Environment::default()).unwrap().flags
    }

    #[test]
    fn every_flag_is_honoured_or_refused_by_name() {
        walk(EXECUTOR, |words| {
            let mut words = words.to_vec();
            words.extend(["--destination=app".into(), "--cache-repo=app/cache".into()]);
            of(&words, &Environment::default()).map(|(_, notes)| notes)
        });
        walk(WARMER, |words| {
            warmer::translate(words, &Environment::default()).map(|plan| plan.notes)
        });
    }

    #[test]
    fn a_line_becomes_the_flags_of_a_build() {
        let flags = read(
            "--context dir:///src --dockerfile=app/Dockerfile -d r.example.com/app:1 --build-arg=A=b=c --target app",
        );
        assert_eq!(flags.tags[0].text, "r.example.com/app:1");
        assert_eq!(flags.context, ContextFlag::Named("/src".into()));
        assert_eq!(flags.file.as_deref(), Some("/src/app/Dockerfile"));
        assert_eq!(
            (flags.target.as_deref(), flags.progress),
            (Some("app"), Some(ProgressMode::Auto))
        );
        assert!(flags.pull && flags.policy == Policy::Disabled);
        assert!(matches!(&flags.outputs[..], [Output::Image(image)] if image.push && !image.store));
        let flags = read(
            "--no-push --destination=a --tarPath=/o.tar --oci-layout-path=/l --compression=zstd -v=error",
        );
        assert_eq!(
            (flags.progress, flags.file.as_deref()),
            (Some(ProgressMode::None), Some("/workspace/Dockerfile"))
        );
        let [Output::Image(image), Output::Docker(tar), Output::Oci(layout)] = &flags.outputs[..]
        else {
            panic!("{:?}", flags.outputs)
        };
        assert!(!image.push && image.store && tar.tar && !layout.tar);
        for format in [&image.format, &tar.format, &layout.format] {
            assert_eq!(format.compression, Compression::Zstd(None));
        }
        assert!(!tar.format.oci_mediatypes && layout.format.oci_mediatypes);
        assert_eq!(tar.destination, Some(Destination::Path("/o.tar".into())));
        let environment = Environment::of(&[("B", "x"), ("KANIKO_NO_PUSH", "1")]);
        let line = "--build-arg B --build-arg C --log-format json --secret id=s,src=f";
        let flags = planned(line, &environment).unwrap().flags;
        let arguments = flags.build_arguments.resolve(&environment, &Default::default());
        assert_eq!(arguments, [("B".into(), "x".into()), ("C".into(), String::new())]);
        assert_eq!(flags.progress, Some(ProgressMode::RawJson));
        assert_eq!(flags.secrets["s"].value(), b"hush");
    }

    #[test]
    fn a_cache_has_a_tag_of_its_own() {
        let one = read("-d r.example.com/app:1 --cache=true");
        let again = read("-d r.example.com/app:2 --cache --cache-copy-layers");
        assert_eq!(one.cache_from, again.cache_from);
        let [CacheFrom { backend: BackendSettings::Registry(cache), .. }] = &one.cache_from[..]
        else {
            panic!()
        };
        let reference = &cache.reference;
        assert!(reference.to_string().starts_with("r.example.com/app/cache:kiln-"), "{reference}");
        assert!(one.cache_to[0].mode == CacheMode::Max && one.cache_to[0].ignore_error);
        let other =
            read("-d r.example.com/app:1 --cache --cache-repo=r.example.com/app/cache --target=x");
        assert_ne!(one.cache_from, other.cache_from);
        let local = read("-d app --cache --no-push-cache --cache-ttl=24h --cache-repo oci:/c");
        assert!(
            matches!(&local.cache_from[..], [CacheFrom { backend: BackendSettings::Layout(cache), .. }]
            if cache.folder == Path::new("/c") && cache.tag.starts_with("kiln-"))
        );
        assert!(local.cache_to.is_empty());
        assert_eq!(seconds("1h30m"), Ok(5400));
        assert!(seconds("0").is_err() && seconds("5d").is_err());
    }

    #[test]
    fn contexts() {
        for (context, expected) in [
            ("tar://stdin", "-"),
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
            let flags = read(&format!("-d app --context={context}"));
            assert_eq!(flags.context, ContextFlag::Named(expected.into()), "{context}");
        }
        let archive = read("-d app --context=tar:///a.tar.gz").context;
        assert_eq!(archive, ContextFlag::Archive("/a.tar.gz".into()));
        for (context, word) in [("s3://b/k.tar.gz", "AWS_REGION"), ("ftp://x", "none of dir")] {
            let error = planned(&format!("-d app --context={context}"), &Environment::default());
            assert!(error.unwrap_err().to_string().contains(word), "{context}");
        }
        let login = Environment::of(&[("GIT_USERNAME", "u"), ("GIT_PASSWORD", "p4ss")]);
        let flags = planned("-d a -c git://h/r", &login).unwrap().flags;
        assert_eq!(flags.secrets["GIT_AUTH_HEADER"].value(), b"basic dTpwNHNz");
        assert!(!format!("{flags:?}").contains("dTpw"));
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
            .filter(|row| matches!(row.handling, flags::Handling::Honoured(_)))
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
            let error = planned(line, &Environment::default()).unwrap_err().to_string();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
