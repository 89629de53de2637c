//! `makisu build`: its flags as flags of a build.

use std::path::Path;

use ::build::{ArchiveOutput, ImageFormat, ImageOptions, ImageOutput, Layers, Output, Policy};
use layer::Compression;

use super::{ABOUT, BUILD, names, progress, read, registries, remote_cache};
use crate::args::compound::destination;
use crate::args::{BuildFlags, ContextFlag, FlagContext, FlagError, InFlag as _};
use crate::commands;
use crate::personalities::flags::{self, Operands, ParsedFlags};
use crate::personalities::{Invocation, helped, say_notes};
use crate::render::Report;
use crate::settings::{Environment, RegistrySetting};

/// A build in Makisu's terms.
#[derive(Debug)]
struct MakisuPlan {
    flags: BuildFlags,
    registries: Vec<RegistrySetting>,
    notes: Vec<String>,
}

/// Builds as `makisu build` does.
///
/// # Errors
/// If a flag is wrong, or the build fails.
pub fn run(
    global: &ParsedFlags,
    words: &[String],
    invocation: &Invocation,
    mut environment: Environment,
) -> Result<(), Report> {
    let given = read(BUILD, words, Operands::Anywhere)?;
    if given.help {
        return helped(&flags::help("makisu build -t NAME CONTEXT", ABOUT, BUILD));
    }
    if let Some(host) = given.last("docker-host") {
        environment.set("DOCKER_HOST", host);
    }
    let mut settings = invocation.settings(&environment)?;
    if let Some(storage) = given.last("storage")
        && invocation.root.is_none()
    {
        settings.root = Path::new(storage).join("kiln");
    }
    commands::build::begin(None, &settings)?;
    let directory = commands::build::directory()?;
    let context = commands::build::flag_context(&environment, &directory);
    let plan = translate(global, &given, context)?;
    say_notes(&given.notes);
    say_notes(&plan.notes);
    settings.registries.extend(plan.registries);
    commands::build::execute(plan.flags, &environment, &settings).map(drop)
}

/// Reads the flags.
fn translate(
    global: &ParsedFlags,
    given: &ParsedFlags,
    context: FlagContext<'_>,
) -> Result<MakisuPlan, FlagError> {
    let [folder] = given.operands.as_slice() else {
        let count = given.operands.len();
        return Err(FlagError::Usage(format!("it takes one context, and not {count}")));
    };
    let (tag, pushed) = names(given)?;
    let (registries, mut notes) = registries(given, &pushed, context.environment)?;
    let mut flags = BuildFlags {
        context: ContextFlag::Named(folder.clone()),
        // Policies are a feature of buildx, which Makisu does not have.
        policy: Policy::Disabled,
        progress: Some(progress(global)?),
        target: given.last("target").map(str::to_owned),
        layers: layers(given)?,
        load: given.is_on("load", false),
        ..BuildFlags::default()
    };
    if pushed.is_empty() {
        flags.add_tag("--tag", &tag)?;
    }
    for name in &pushed {
        flags.add_tag("--push", name)?;
    }
    // Relative to the context, as in Makisu.
    let file = Path::new(folder).join(given.last("file").unwrap_or("Dockerfile"));
    flags.file = Some(file.to_string_lossy().into_owned());
    for argument in given.all("build-arg") {
        if !argument.contains('=') {
            return Err(FlagError::bad(format!("--build-arg={argument}"), "it is not NAME=VALUE"));
        }
        flags.set_build_argument("--build-arg", argument, context.environment)?;
    }
    flags.outputs = outputs(given, !pushed.is_empty(), context)?;
    notes.extend(remote_cache::read(given, &pushed, &mut flags)?);
    // Read by the caller.
    for flag in ["docker-host", "storage"] {
        given.has(flag);
    }
    given.done()?;
    Ok(MakisuPlan { flags, registries, notes })
}

fn layers(given: &ParsedFlags) -> Result<Layers, FlagError> {
    match given.last("commit") {
        None | Some("implicit") => Ok(Layers::Unmarked),
        Some("explicit") => Ok(Layers::Marked),
        Some(other) => {
            let reason = "there are implicit and explicit";
            Err(FlagError::bad(format!("--commit={other}"), reason))
        }
    }
}

fn outputs(
    given: &ParsedFlags,
    push: bool,
    context: FlagContext<'_>,
) -> Result<Vec<Output>, FlagError> {
    let compression = match given.last("compression") {
        None | Some("default") => Compression::Gzip(None),
        Some("no") => Compression::None,
        Some("speed") => Compression::Gzip(Some(1)),
        Some("size") => Compression::Gzip(Some(9)),
        Some(other) => {
            let reason = "there are no, speed, size and default";
            return Err(FlagError::bad(format!("--compression={other}"), reason));
        }
    };
    let mut outputs = vec![Output::Image(ImageOutput {
        push,
        format: ImageFormat { compression, ..ImageFormat::default() },
        ..ImageOutput::kept(Vec::new())
    })];
    if let Some(path) = given.last("dest") {
        let destination = destination::file(path, context.output()).in_flag("--dest")?;
        outputs.push(Output::Docker(ArchiveOutput {
            names: Vec::new(),
            destination: Some(destination),
            tar: true,
            format: ImageFormat { compression, oci_mediatypes: false, ..ImageFormat::default() },
            options: ImageOptions::default(),
        }));
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use ::build::{BackendSettings, CacheFrom, CacheMode, Destination, MapStore, REDIS_PASSWORD};

    use super::*;
    use crate::personalities::flags::testing::walk;
    use crate::personalities::makisu::{GLOBAL, split};
    use crate::progress::ProgressMode;

    fn of(words: &[String]) -> Result<(MakisuPlan, Vec<String>), FlagError> {
        let (global, rest) = split(words);
        let global = flags::read(GLOBAL, &global, Operands::Anywhere)?;
        let given = flags::read(BUILD, &rest, Operands::Anywhere)?;
        let environment = Environment::default();
        let directory = Path::new("/w");
        let context =
            FlagContext { environment: &environment, directory, stdout_is_terminal: false };
        Ok((translate(&global, &given, context)?, given.notes))
    }

    fn plan(line: &str) -> Result<MakisuPlan, FlagError> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        of(&words).map(|(plan, _)| plan)
    }

    #[test]
    fn every_flag_is_honoured_or_refused_by_name() {
        walk(BUILD, |words| {
            let mut words = words.to_vec();
            words.extend(["--tag=app", "--push=r", "--redis-cache-addr=r", "."].map(str::to_owned));
            let (plan, notes) = of(&words)?;
            Ok([plan.notes, notes].concat())
        });
    }

    #[test]
    fn a_line_becomes_the_flags_of_a_build() {
        let flags = plan(
            "--modifyfs=true -t r.old/team/app:1 --push r1:5000 --push r2 --replica r3/x:2 --log-fmt=console --dest /a.tar --compression=size src",
        )
        .unwrap()
        .flags;
        let tags: Vec<&str> = flags.tags.iter().map(|tag| tag.text.as_str()).collect();
        assert_eq!(tags, ["r1:5000/team/app:1", "r2/team/app:1", "r3/x:2"]);
        assert_eq!(
            (flags.file.as_deref(), flags.progress),
            (Some("src/Dockerfile"), Some(ProgressMode::Plain))
        );
        assert_eq!((flags.layers, flags.policy), (Layers::Unmarked, Policy::Disabled));
        let [Output::Image(image), Output::Docker(archive)] = &flags.outputs[..] else {
            panic!("{:?}", flags.outputs)
        };
        assert!(image.push && image.format.compression == Compression::Gzip(Some(9)));
        assert_eq!(archive.destination, Some(Destination::Path("/a.tar".into())));
        assert_eq!(plan("-t app .").unwrap().flags.tags[0].text, "app");
        let marked = plan("-t app --commit=explicit .").unwrap().flags.layers;
        assert_eq!(marked, Layers::Marked);
    }

    #[test]
    fn shared_caches_have_their_secrets() {
        let redis = plan("-t app --push r --redis-cache-addr redis --redis-cache-password=hush --redis-cache-ttl=1h --http-cache-addr=kv .").unwrap();
        let [CacheFrom { backend: BackendSettings::Map(map), .. }] = &redis.flags.cache_from[..]
        else {
            panic!("a map")
        };
        assert!(matches!(&map.store, MapStore::Redis(server) if server.address == "redis:6379"));
        assert_eq!((map.ttl.as_secs(), map.credentials.get(REDIS_PASSWORD)), (3600, Some("hush")));
        let to = &redis.flags.cache_to[0];
        assert!(to.mode == CacheMode::Max && to.ignore_error);
        assert!(redis.notes.iter().any(|note| note.contains("--http-cache-addr")));
        assert!(!format!("{redis:?}").contains("hush"));
        let line = "-t app --push r --http-cache-addr kv:80 --http-cache-header=X-Key:hush .";
        let http = plan(line).unwrap();
        let [CacheFrom { backend: BackendSettings::Map(map), .. }] = &http.flags.cache_from[..]
        else {
            panic!("a map")
        };
        assert_eq!(map.store, MapStore::Http { url: "http://kv:80".into() });
        assert_eq!(map.credentials.get("header x-key"), Some("hush"));
        assert!(!format!("{http:?}").contains("hush"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, word) in [
            (".", "`--tag` is missing"),
            ("-t a", "one context"),
            ("-t a . --commit=often", "there are implicit and explicit"),
            ("-t a . --blacklist=/usr", "--mount=type=tmpfs"),
            ("-t a . --build-arg=B", "not NAME=VALUE"),
            ("-t a . --compression=lz4", "there are no, speed"),
            ("-t a . --registry-config={\"r\":1}", "PATTERN: OPTIONS"),
            ("-t a . --log-fmt=xml", "console and json"),
            ("-t a . --redis-cache-addr=r", "`--redis-cache-addr` needs `--push`"),
            ("-t a . --push r --redis-cache-addr=r --redis-cache-ttl=x", "`--redis-cache-ttl=x`"),
            ("-t a . --push r --http-cache-addr=r --http-cache-header=hush", "NAME:VALUE"),
            ("-t a . --frob", "unknown flag: --frob"),
        ] {
            let error = plan(line).unwrap_err().to_string();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
