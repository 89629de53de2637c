//! Command lines and the requests they become.

use build::{CacheTarget, Context, DockerfileSource, NoCache, Output};
use clap::Parser as _;
use oci::Platform;
use runtime::WantedIsolation;

use super::*;
use crate::args::{Cli, Command};

fn plan_with(line: &[&str], pairs: &[(&str, &str)], input: &[u8]) -> Result<BuildPlan, String> {
    let words = ["kiln"].iter().chain(line).copied();
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    let Some(args) = cli.command.as_build().cloned() else { panic!("a build") };
    let environment = Environment::of(pairs);
    let settings = Settings::read(&environment, Some(Path::new("/root")), false)
        .map_err(|error| error.to_string())?;
    let directory = Path::new("/");
    let context = FlagContext { environment: &environment, directory, stdout_is_terminal: false };
    let flags = args.read(context, Engine::Docker).map_err(|error| error.to_string())?;
    let inputs = PlanInputs {
        environment: &environment,
        settings: &settings,
        proxies: &Proxies::default(),
        directory,
        stdin: &mut || Box::new(std::io::Cursor::new(input.to_vec())),
    };
    plan(flags, inputs).map_err(|error| error.to_string())
}

fn plan_of(line: &str) -> Result<BuildPlan, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    plan_with(&words, &[], b"FROM scratch")
}

#[test]
fn the_job_of_the_readme() {
    let plan = plan_of(
        "build --cache-from type=registry,ref=registry.example.com/app:cache \
         --cache-to type=registry,ref=registry.example.com/app:cache,mode=max \
         -t registry.example.com/app:latest -t registry.example.com/app:1 --push /tmp",
    )
    .unwrap();
    let request = plan.request;
    assert_eq!(request.context, Context::Folder("/tmp".into()));
    assert_eq!(request.tags.len(), 2);
    assert!(matches!(&request.outputs[..], [Output::Image(image)] if image.push));
    assert_eq!((request.cache_from.len(), request.cache_to.len()), (1, 1));
    assert_eq!(plan.presentation.progress, ProgressMode::Auto);
}

#[test]
fn all_spellings_of_the_command() {
    for command in ["build", "b", "--root /x build", "-D build"] {
        assert!(plan_of(&format!("{command} /tmp")).is_ok(), "{command}");
    }
}

#[test]
fn switches_take_truth_values_as_in_go() {
    for (line, pull) in
        [("--pull", true), ("--pull=false", false), ("--pull=1", true), ("--pull --pull=F", false)]
    {
        let plan = plan_of(&format!("build {line} /tmp")).unwrap();
        assert_eq!(plan.request.pull, pull, "{line}");
    }
    let plan = plan_of("build -qt a --rm --force-rm=true --compress /tmp").unwrap();
    assert!(plan.presentation.prints_id && plan.presentation.warnings.is_empty());
    assert_eq!(plan.request.tags.len(), 1);
}

#[test]
fn every_honoured_flag_reaches_the_request() {
    let plan = plan_with(
        &"build --target t --build-arg A=1 --build-arg B --label l=v --platform linux/arm64 --pull --no-cache \
          --build-context x=docker-image://alpine --secret id=S --network none --add-host h:1.1.1.1 \
          --ulimit nofile=1 --ulimit nofile=2 --shm-size 64m --cgroup-parent g --allow network.host \
          --allow security.insecure --isolation namespaces --iidfile i --metadata-file m --progress plain \
          -f - /tmp"
            .split_whitespace()
            .collect::<Vec<_>>(),
        &[("B", "2"), ("S", "secret"), ("SOURCE_DATE_EPOCH", "7")],
        b"FROM scratch",
    )
    .unwrap();
    let BuildPlan { request, presentation } = plan;
    assert_eq!(request.target.as_deref(), Some("t"));
    assert_eq!(request.build_args.len(), 3);
    assert_eq!(request.source_date_epoch, Some(7));
    assert_eq!(request.labels, [("l".into(), "v".into())]);
    assert_eq!(request.platforms[0].to_string(), "linux/arm64");
    assert!(request.pull && request.no_cache == NoCache::Everything);
    assert!(request.named_contexts.contains_key("x"));
    assert_eq!(request.secrets["S"].value(), b"secret");
    assert_eq!(request.network, Network::None);
    assert_eq!(request.extra_hosts.len(), 1);
    assert_eq!((request.ulimits.len(), request.ulimits[0].soft), (1, 2));
    assert_eq!((request.shm_size, request.cgroup_parent.as_str()), (64 << 20, "g"));
    assert!(request.allow_network_host && request.allow_security_insecure);
    assert!(matches!(request.dockerfile, DockerfileSource::Text(text) if &*text == "FROM scratch"));
    assert_eq!(presentation.isolation, WantedIsolation::Namespaces);
    assert_eq!(presentation.progress, ProgressMode::Plain);
    assert_eq!(presentation.iidfile.unwrap(), Path::new("/i"));
    assert_eq!(presentation.metadata_file.unwrap(), Path::new("/m"));
}

#[test]
fn settings_fill_what_flags_leave_open() {
    let pairs = [("BUILDKIT_PROGRESS", "rawjson"), ("DOCKER_DEFAULT_PLATFORM", "linux/arm64")];
    let plan = plan_with(&["build", "/tmp"], &pairs, b"").unwrap();
    assert_eq!(plan.presentation.progress, ProgressMode::RawJson);
    assert_eq!(plan.request.platforms[0].architecture, "arm64");
    let plan =
        plan_with(&["build", "--platform", "local", "--progress", "tty", "/tmp"], &pairs, b"")
            .unwrap();
    assert_eq!(plan.presentation.progress, ProgressMode::Tty);
    assert_eq!(plan.request.platforms, [Platform::host()]);
    assert!(plan_of("build --network host /tmp").unwrap().request.allow_network_host);
    let pairs = [("DOCKER_DEFAULT_PLATFORM", "linux/amd64,linux/arm64")];
    assert_eq!(plan_with(&["build", "/tmp"], &pairs, b"").unwrap().request.platforms.len(), 2);
    let line = "build --platform linux/amd64,linux/arm64 --platform linux/amd64,linux/arm/v7 /tmp";
    let platforms = plan_of(line).unwrap().request.platforms;
    let platforms: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64", "linux/arm/v7"]);
    plan_of("build -o type=local,dest=/,mode=delete --allow buildx.local.delete /tmp").unwrap();
}

#[test]
fn what_is_wrong_or_missing_is_one_sentence_with_the_flag() {
    for (line, word) in [
        ("build --tag Upper /tmp", "`--tag`: `Upper` is not an image reference"),
        ("build --annotation layer:a=b /tmp", "`--annotation`: unknown annotation type `layer`"),
        ("build --annotation a=b -o out /tmp", "no output is an image"),
        ("build -o type=local,dest=/,mode=delete /tmp", "--allow buildx.local.delete"),
        ("build --platform a/b/c/d /tmp", "`--platform`"),
        ("build --no-cache --no-cache-filter a /tmp", "cannot be used together"),
        ("build -q --progress plain /tmp", "`--progress=plain` and `--quiet`"),
        ("build --push /tmp", "--tag"),
        ("build --iidfile i -o out /tmp", "`--iidfile`"),
        ("build --network bridge /tmp", "`--network bridge`"),
        ("build --allow device=gpu /tmp", "`--allow device=gpu`"),
        ("build --attest type=vex /tmp", "`--attest`"),
        ("build --provenance=mode=most /tmp", "`--provenance`"),
        ("build --isolation hyperv /tmp", "none of auto, namespaces"),
        ("build --build-arg SOURCE_DATE_EPOCH=x /tmp", "SOURCE_DATE_EPOCH"),
        ("build --cache-to type=s3,bucket=b /tmp", "`--cache-to`: `type=s3` needs `region`"),
        ("build --ssh default /tmp", "`--ssh`"),
        ("build --no-such-flag /tmp", "--no-such-flag"),
        ("build --pull=perhaps /tmp", "neither true nor false"),
        ("build", "PATH"),
        ("build https://github.com/a/b.git?x=y", "unexpected query"),
    ] {
        let Err(error) = plan_of(line) else { panic!("{line}: accepted") };
        assert!(error.contains(word), "{line}: {error}");
    }
}

#[test]
fn secrets_are_in_no_debug_output() {
    let plan = plan_with(&["build", "--secret", "id=S", "/tmp"], &[("S", "hunter2")], b"").unwrap();
    assert!(!format!("{plan:?}").contains("hunter2"));
    assert!(matches!(Command::Version, Command::Version));
}

#[test]
fn a_build_argument_asks_for_an_inline_cache() {
    let caches = |line: &str| plan_of(line).unwrap().request.cache_to;
    let argument = "--build-arg BUILDKIT_INLINE_CACHE=1";
    assert_eq!(caches(&format!("build {argument} /tmp"))[..], [cache::inline_cache()]);
    let both = caches(&format!("build {argument} --cache-to type=inline --cache-to h/a:c /tmp"));
    assert_eq!((both.len(), both[0].target == CacheTarget::Inline), (2, true));
    assert!(caches("build --build-arg BUILDKIT_INLINE_CACHE=0 /tmp").is_empty());
    assert!(
        caches(&format!("build {argument} --build-arg BUILDKIT_INLINE_CACHE=false /tmp"))
            .is_empty()
    );
}

/// Scripts pass empty values for unset variables. Each flag drops or refuses them as buildx does;
/// every flag with a value is on one of the lists.
#[test]
fn empty_values_are_taken_and_refused_as_buildx_does() {
    let ignored = [
        "add-host",
        "allow",
        "annotation",
        "build-context",
        "cache-from",
        "cache-to",
        "call",
        "cgroup-parent",
        "file",
        "iidfile",
        "isolation",
        "metadata-file",
        "network",
        "no-cache-filter",
        "output",
        "progress",
        "provenance",
        "sbom",
        "secret",
        "ssh",
        "target",
    ];
    for flag in ignored {
        let words = ["build", &format!("--{flag}="), "/tmp"];
        let plan = plan_with(&words, &[], b"").unwrap_or_else(|error| panic!("{flag}: {error}"));
        let plain = plan_with(&["build", "/tmp"], &[], b"").unwrap();
        assert_eq!(plan.presentation, plain.presentation, "{flag}");
        assert_eq!(format!("{:?}", plan.request), format!("{:?}", plain.request), "{flag}");
    }
    let refused =
        ["attest", "build-arg", "label", "platform", "policy", "shm-size", "tag", "ulimit"];
    for flag in refused {
        let Err(error) = plan_with(&["build", &format!("--{flag}="), "/tmp"], &[], b"") else {
            panic!("{flag}: accepted");
        };
        assert!(error.contains(&format!("`--{flag}`")), "{flag}: {error}");
    }
    // kiln's own flags are strict, or an empty value is the default.
    let own = [
        "cache-normalize",
        "disk-size",
        "keep-storage",
        "layers",
        "lazy",
        "require-cached",
        "root",
    ];
    let mut command = <Cli as clap::CommandFactory>::command();
    command.build();
    let build = command.find_subcommand("build").unwrap();
    for argument in build.get_arguments().filter(|argument| !argument.is_hide_set()) {
        let Some(flag) = argument.get_long() else { continue };
        // A switch may have a value and needs none.
        let takes_value = argument.get_num_args().is_some_and(|count| count.min_values() > 0);
        let is_listed = ignored.contains(&flag) || refused.contains(&flag) || own.contains(&flag);
        assert!(!takes_value || is_listed, "`--{flag}` is on no list");
    }
    assert!(plan_of("build --platform linux/amd64, /tmp").unwrap_err().contains("--platform"));
}

#[test]
fn tags_are_names_of_outputs_that_have_names_of_their_own() {
    let names = |line: &str| -> Vec<String> {
        let outputs = plan_of(line).unwrap().request.outputs;
        let names = outputs.iter().flat_map(|output| match output {
            Output::Image(image) => image.names.clone(),
            Output::Oci(archive) | Output::Docker(archive) => archive.names.clone(),
            _ => Vec::new(),
        });
        names.map(|name| name.familiar()).collect()
    };
    for kind in ["image", "oci,dest=/tmp/a.tar", "docker,dest=/tmp/a.tar"] {
        let line = format!("build -o type={kind},name=h.io/a:4 -t h.io/a:5 -t h.io/a:4 /tmp");
        assert_eq!(names(&line), ["h.io/a:4", "h.io/a:5"], "{kind}");
    }
    assert_eq!(names("build -o type=image,name=h.io/a:4 /tmp"), ["h.io/a:4"]);
    // Without names of its own an image has the request's tags.
    assert!(names("build -o type=image -t h.io/a:5 /tmp").is_empty());
    let line = "build -o type=image,name=h.io/a,push=true,push-by-digest=true -t h.io/a:5 /tmp";
    assert!(plan_of(line).unwrap_err().contains("`h.io/a:5` has one"));
}

#[test]
fn build_arguments_come_from_several_places() {
    let pairs = [("FROM_ENV", "x"), ("SOURCE_DATE_EPOCH", "12"), ("EMPTY", "")];
    let arguments = |given: &[&str]| {
        let given = given.iter().flat_map(|text| ["--build-arg", text]);
        let line: Vec<&str> = ["build"].into_iter().chain(given).chain(["/tmp"]).collect();
        plan_with(&line, &pairs, b"").map(|plan| plan.request)
    };
    let request = arguments(&["A=1", "A=2", "FROM_ENV", "UNSET", "EMPTY", "B=c=d"]).unwrap();
    let found: Vec<_> =
        request.build_args.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected =
        [("A", "2"), ("FROM_ENV", "x"), ("EMPTY", ""), ("B", "c=d"), ("SOURCE_DATE_EPOCH", "12")];
    assert_eq!(found, expected);
    assert_eq!(request.source_date_epoch, Some(12));
    let request = arguments(&["SOURCE_DATE_EPOCH="]).unwrap();
    assert_eq!((request.source_date_epoch, request.build_args.len()), (None, 1));
    assert!(arguments(&["=x"]).unwrap_err().contains("`--build-arg`: "));
}
