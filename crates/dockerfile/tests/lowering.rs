//! Graphs of Dockerfiles: names, inputs, contexts, triggers, refusals.

use std::sync::Arc;

use dockerfile::{
    Context, Dockerfile, Error, HistoryLayer, ImageLookupError, ImageRequest, Images, LowerRequest,
    Lowered, Lowering, NoCache, ResolvedImage,
};
use graph::{
    ActionInput, ActionKind, ImageSource, LineRange, LocalSource, MountKind, Operation, SourceFile,
};
use oci::{Digest, ImageConfig, Platform};

fn parse(text: &str) -> Result<Dockerfile, Error> {
    Dockerfile::parse(SourceFile { name: "Dockerfile".into(), text: Arc::from(text) })
}

fn request() -> LowerRequest {
    LowerRequest::new(Platform::new("linux", "amd64", ""))
}

fn look_up(request: &ImageRequest) -> Result<ResolvedImage, ImageLookupError> {
    let name = request.reference.repository().path().trim_start_matches("library/");
    let mut config = ImageConfig {
        os: request.platform.os.clone(),
        architecture: request.platform.architecture.clone(),
        ..ImageConfig::default()
    };
    config.rootfs.diff_ids = vec![Digest::of(name)];
    match name {
        "missing" | "alpin" => return Err(ImageLookupError::new("not found")),
        "trigger" => {
            config.config.on_build = vec!["COPY --from=tool /x /x".into(), "ENV T=1".into()];
        }
        _ => {}
    }
    let source = ImageSource {
        reference: request.reference.with_digest(Digest::of(name)),
        platform: request.platform.clone(),
        manifest: Digest::of("manifest"),
        diff_ids: config.rootfs.diff_ids.clone(),
    };
    Ok(ResolvedImage { source, config })
}

fn lower_with(text: &str, request: &LowerRequest) -> Result<Lowered, Error> {
    let file = parse(text)?;
    let mut images = Images::new();
    loop {
        match file.lower(request, &images)? {
            Lowering::Done(lowered) => return Ok(*lowered),
            Lowering::Needs(needs) => {
                for need in needs {
                    images.insert(&need, look_up(&need));
                }
            }
        }
    }
}

fn lower(text: &str) -> Lowered {
    lower_with(text, &request()).expect("a good Dockerfile")
}

fn refusal(text: &str) -> (u32, String) {
    let error = lower_with(text, &request()).expect_err("a bad Dockerfile");
    (error.lines.map_or(0, |lines| lines.first), error.to_string())
}

/// Names of steps, digests left out.
fn names(lowered: &Lowered) -> Vec<String> {
    let name = |name: &str| name.split("@sha256:").next().unwrap_or_default().to_owned();
    lowered.graph.steps().map(|(_, step)| name(&step.name)).collect()
}

fn operations(lowered: &Lowered) -> Vec<&Operation> {
    lowered.graph.steps().map(|(_, step)| &step.operation).collect()
}

#[test]
fn one_stage_has_no_name_in_progress() {
    let lowered = lower(
        "FROM x\nENV A=1\nrun echo $A \"$B\"\nWORKDIR /w/$A\nCOPY . .\nRUN <<E\nfirst\nsecond\nE\n",
    );
    assert_eq!(
        names(&lowered),
        [
            "[1/5] FROM docker.io/library/x:latest",
            "[2/5] RUN echo 1 \"$B\"",
            "[3/5] WORKDIR /w/1",
            "[internal] load build context",
            "[4/5] COPY . .",
            "[5/5] RUN <<E (first...)",
        ]
    );
    assert_eq!(lowered.graph.steps().last().map(|(_, step)| step.lines), Some(Some(lines(6, 9))));
    let entries: Vec<_> = lowered.history_layers.iter().map(|layer| layer.entry).collect();
    assert_eq!(entries, [1, 2, 3, 4]);
    assert_eq!(lowered.history_layers.last().map(|layer| layer.step), lowered.result);
}

fn lines(first: u32, last: u32) -> LineRange {
    LineRange { first, last }
}

#[test]
fn stages_are_named_and_numbers_padded() {
    let runs = "RUN a\n".repeat(9);
    let lowered = lower(&format!("FROM x AS Build\nRUN b\nFROM build\n{runs}RUN c\n"));
    let names = names(&lowered);
    assert_eq!(names[1], "[build 2/2] RUN b");
    assert_eq!(names[2], "[stage-1  1/10] RUN a");
    assert_eq!(names[11], "[stage-1 10/10] RUN c");
    assert_eq!(lowered.stages.len(), 2);
}

#[test]
fn platforms_are_named_when_there_are_several() {
    let mut request = request();
    request.multi_platform = true;
    request.platform_explicit = true;
    request.platform = "linux/arm64".parse().expect("a platform");
    let lowered = lower_with(
        "FROM --platform=$BUILDPLATFORM x AS a\nARG TARGETARCH\nRUN b\nFROM x\nCOPY --from=a / /\n",
        &request,
    )
    .expect("a good Dockerfile");
    assert_eq!(
        names(&lowered),
        [
            "[linux/amd64 a 1/2] FROM docker.io/library/x:latest",
            "[linux/arm64 stage-1 1/2] FROM docker.io/library/x:latest",
            "[linux/amd64->arm64 a 2/2] RUN b",
            "[linux/arm64 stage-1 2/2] COPY --from=a / /",
        ]
    );
    assert_eq!(lowered.config.architecture, "arm64");
}

#[test]
fn only_what_the_target_needs_is_asked_for() {
    let text = "FROM one AS a\nFROM two AS b\nRUN x\nFROM a\nCOPY --from=three /x /\nRUN --mount=from=four,target=/m y\n";
    let file = parse(text).expect("a good Dockerfile");
    let Ok(Lowering::Needs(needs)) = file.lower(&request(), &Images::new()) else {
        panic!("images are needed");
    };
    let asked: Vec<_> = needs.iter().map(|need| need.reference.familiar()).collect();
    assert_eq!(asked, ["one:latest", "three:latest", "four:latest"]);
    assert_eq!(needs[0].stage, "a");
    assert_eq!(needs[1].lines, Some(lines(5, 5)));
}

#[test]
fn triggers_can_ask_for_more() {
    let lowered = lower("FROM trigger\nRUN echo $T\n");
    assert_eq!(
        names(&lowered),
        [
            "[1/2] FROM docker.io/library/trigger:latest",
            "FROM docker.io/library/tool:latest",
            "[2/4] ONBUILD COPY --from=tool /x /x",
            "[3/4] RUN echo 1",
        ]
    );
    assert!(lowered.config.config.on_build.is_empty());
}

#[test]
fn a_linked_copy_is_a_merge() {
    let lowered = lower("FROM x\nCOPY --link a /b\nRUN c\n");
    let names = names(&lowered);
    assert_eq!(names[2], "[2/3] COPY --link a /b");
    assert_eq!(names[3], "[2/3] LINK COPY --link a /b");
    assert_eq!(names[4], "[3/3] RUN c");
    let (copied, _) = lowered.graph.steps().nth(2).expect("the copy");
    let (_, merge) = lowered.graph.steps().nth(3).expect("the merge");
    assert_eq!(merge.operation, Operation::Merge);
    assert_eq!(merge.shown_as, Some(copied));
    // On `scratch` there is nothing to merge with, and a mode needs the base.
    for text in ["FROM scratch\nCOPY --link a /b\n", "FROM x\nCOPY --link --chmod=644 a /b\n"] {
        assert!(!operations(&lower(text)).contains(&&Operation::Merge), "{text}");
    }
}

#[test]
fn the_context_is_one_step_with_the_paths_that_are_read() {
    let local = |text: &str| {
        let lowered = lower(text);
        let sources = operations(&lowered).into_iter().filter_map(|operation| match operation {
            Operation::Local(source) => Some(source.clone()),
            _ => None,
        });
        sources.collect::<Vec<LocalSource>>()
    };
    let sources = local(
        "FROM x\nCOPY ./b /a/../a* /x/\nADD https://h/f c /y/\nRUN --mount=source=m,target=/m z\n",
    );
    assert_eq!(sources.len(), 1);
    assert_eq!(sources[0].follow_paths, ["a*", "b", "c", "m"]);
    assert!(local("FROM x\nCOPY a /\nRUN --mount=target=/m z\n")[0].follow_paths.is_empty());
    assert!(local("FROM x\nCOPY <<E /f\nE\n").is_empty());
}

#[test]
fn named_contexts_replace_stages_and_images() {
    let mut request = request();
    let local = Context::Local { name: "src".into(), excludes: vec!["no".into()] };
    request.named_contexts.insert("build".into(), local);
    request.named_contexts.insert(
        "docker.io/library/tool:latest".into(),
        Context::Image("other:1".parse().expect("a reference")),
    );
    let lowered = lower_with(
        "FROM x AS build\nRUN fails\nFROM scratch\nCOPY --from=build /a /a\nCOPY --from=tool /t /t\n",
        &request,
    )
    .expect("a good Dockerfile");
    let names = names(&lowered);
    assert!(names.contains(&"[context build] load from client".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("RUN fails")));
    let expected = "[context docker.io/library/tool:latest] docker.io/library/other:1";
    assert!(names.contains(&expected.to_owned()), "{names:?}");
    assert_eq!(lowered.contexts[0].name, "src");
    assert_eq!(lowered.contexts[0].follow_paths, ["a"]);
}

#[test]
fn remote_sources_are_steps() {
    let lowered = lower(
        "FROM x\nADD --keep-git-dir https://h/r.git#v1:sub /r\n\
         ADD --unpack https://h/a/f.tar?q https://h /d/\n",
    );
    let operations = operations(&lowered);
    let Operation::Git(git) = operations[1] else { panic!("{operations:?}") };
    assert_eq!((git.reference.as_str(), git.subdir.as_str()), ("v1", "sub"));
    assert!(git.keep_git_dir);
    let Operation::Http(http) = operations[3] else { panic!("{operations:?}") };
    assert_eq!(http.filename, "f.tar");
    let Operation::Http(http) = operations[4] else { panic!("{operations:?}") };
    assert_eq!(http.filename, "__unnamed__");
    let Operation::Files(files) = operations[5] else { panic!("{operations:?}") };
    let ActionKind::Copy(copy) = &files.actions[0].kind else { panic!("{files:?}") };
    assert_eq!((copy.source.as_str(), copy.unpack, copy.wildcard), ("/f.tar", true, false));
}

#[test]
fn mounts_have_buildkits_order() {
    let mut request = request();
    request.shm_size = 1 << 20;
    let lowered = lower_with(
        "FROM x AS a\nFROM x\nWORKDIR /w\nRUN --mount=type=ssh --mount=type=secret,id=s,env=TOKEN \
         --mount=type=secret,id=t --mount=from=a,target=z --mount=type=cache,target=c,uid=1 echo $TOKEN\n",
        &request,
    )
    .expect("a good Dockerfile");
    let (_, step) = lowered.graph.steps().last().expect("the command");
    let Operation::Run(run) = &step.operation else { panic!("{step:?}") };
    let targets: Vec<_> = run.mounts.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(
        targets,
        ["/", "/dev/shm", "/w/c", "/w/z", "/run/secrets/t", "/run/buildkit/ssh_agent.0"]
    );
    assert_eq!(run.mounts[2].selector, "/cache");
    let MountKind::Cache { id, .. } = &run.mounts[2].kind else { panic!("{run:?}") };
    assert_eq!(id, "/c");
    assert_eq!(step.inputs.len(), 3);
    assert_eq!(run.secret_env[0].name, "TOKEN");
    assert_eq!(run.env.last().map(|(name, _)| name.as_str()), Some("SSH_AUTH_SOCK"));
    assert!(step.name.ends_with("echo ****"), "{}", step.name);
    let secrets: Vec<_> = lowered.secrets.iter().map(|secret| secret.id.as_str()).collect();
    assert_eq!(secrets, ["s", "t"]);
    assert_eq!(lowered.agents[0].id, "default");
}

#[test]
fn no_cache_reaches_the_stages_that_are_named() {
    let ignored = |no_cache| {
        let mut request = request();
        request.no_cache = no_cache;
        let text = "FROM x AS one\nRUN a\nFROM one AS two\nWORKDIR /w\nRUN b\n";
        let lowered = lower_with(text, &request).expect("a good Dockerfile");
        let steps = lowered.graph.steps().map(|(_, step)| step.ignore_cache);
        steps.collect::<Vec<_>>()
    };
    assert_eq!(ignored(NoCache::None), [false, false, false, false]);
    assert_eq!(ignored(NoCache::All), [false, true, false, true]);
    assert_eq!(ignored(NoCache::Stages(vec!["TWO".into()])), [false, false, false, true]);
}

#[test]
fn build_arguments_that_nobody_asks_for_are_told() {
    let mut request = request();
    for name in ["G", "A", "HTTP_PROXY", "NOBODY", "TARGETARCH"] {
        request.build_args.push((name.into(), "1".into()));
    }
    let lowered = lower_with("ARG G\nFROM x\nARG A\nRUN b\n", &request).expect("a good Dockerfile");
    assert_eq!(lowered.unused_build_args, ["NOBODY"]);
    assert_eq!(lowered.used_build_args, ["A", "G", "HTTP_PROXY", "TARGETARCH"]);
    let (_, step) = lowered.graph.steps().last().expect("the command");
    let Operation::Run(run) = &step.operation else { panic!("{step:?}") };
    assert_eq!(run.proxy.http, "1");
    assert!(!run.env.iter().any(|(name, _)| name == "HTTP_PROXY"));
}

#[test]
fn nothing_but_config_has_no_result() {
    let lowered = lower("FROM scratch\nENV A=1\n");
    assert_eq!(lowered.result, None);
    assert!(lowered.graph.is_empty());
    let lowered = lower("FROM scratch\nWORKDIR /a\nCOPY --from=x / /\n");
    let (step, workdir) = lowered.graph.steps().nth(1).expect("the folder");
    let Operation::Files(files) = &workdir.operation else { panic!("{workdir:?}") };
    assert_eq!(files.actions[0].base, ActionInput::Scratch);
    assert_eq!(lowered.history_layers[0], HistoryLayer { entry: 0, step });
}

#[test]
fn other_frontends_are_refused() {
    let (line, message) = refusal("# syntax=example.com/other:1\nanything\n");
    assert_eq!(line, 1);
    assert!(message.contains("`example.com/other:1`"), "{message}");
    lower("# syntax=docker/dockerfile:1.7-labs\nFROM scratch\n");
    let mut request = request();
    request.build_args = vec![("BUILDKIT_SYNTAX".into(), "dockerfile.v0".into())];
    assert!(lower_with("# syntax=x\nFROM scratch\n", &request).is_ok());
    request.build_args = vec![("BUILDKIT_SYNTAX".into(), "x/y".into())];
    assert!(lower_with("FROM scratch\n", &request).is_err());
}

#[test]
fn refusals_have_lines_and_suggestions() {
    for (text, line, message) in [
        ("FROM x\nRUNN a", 2, "unknown instruction: RUNN (did you mean RUN?)"),
        ("FROM alpin", 1, "alpin: not found (did you mean alpine?)"),
        ("FROM biuld\nFROM x AS build\nCOPY --from=0 /a /a", 0, ""),
        (
            "ARG VERSION=1\nFROM ${VERSOIN}",
            2,
            "base name (${VERSOIN}) should not be blank (did you mean VERSION?)",
        ),
        (
            "FROM x\n\nRUN \\\n --network=host a",
            3,
            "network.host is not allowed (grant it with --allow network.host)",
        ),
        (
            "FROM x\nARG --a b",
            2,
            "unknown flag: --a (it takes no flags; `--` in front of the word makes it an argument)",
        ),
        (
            "FROM x\nRUN --device=a b",
            2,
            "unknown flag: --device (devices are of BuildKit's labs syntax, and steps get none: \
             do what needs one outside of the build)",
        ),
        (
            "FROM x\nRUN --mount=type=tmpfs,target=/t,source=a b",
            2,
            "a tmpfs begins empty: `/a` is not in it (leave source= out, or write type=bind)",
        ),
        (
            "FROM x\nRUN --mount=type=secret,id=a,target=b/.. c",
            2,
            "invalid mount target \"/\" (name a folder with target=)",
        ),
        (
            "FROM x\nRUN --mount=type=ssh,target=/ c",
            2,
            "invalid mount target \"/\" (name a folder with target=)",
        ),
        (
            "FROM x AS a\nCOPY --from=b /a /a\nFROM a AS b\nCOPY --from=a / /",
            4,
            "circular dependency detected on stage: a (a stage can read only what is built before it)",
        ),
    ] {
        if message.is_empty() {
            lower(text);
            continue;
        }
        assert_eq!(refusal(text), (line, message.to_owned()), "{text}");
    }
}

#[test]
fn refusals_point_at_words() {
    for (text, words) in [
        ("FROM x\nRUNN a", "RUNN"),
        ("FROM x\nCOPY --chwon=1 a /b", "--chwon"),
        ("FROM x\nCOPY --chown=1 --link --link=true a /b", "--link"),
        ("FROM x\nCOPY --chmod=9 \\\n # chmod=9 9\n 9 /b", "9"),
        ("FROM x AS 1a", "1a"),
        ("ARG V=1\nFROM x:${W}y\nFROM ${W}", "${W}"),
        ("FROM x\nENV A=1 B=\"${A:*x}\" C=2", "${A:*x}"),
        ("FROM x\nENV A=1 B=\"two three", "\"two three"),
        ("FROM x\nRUN --mount=type=cache,target=/a,sharing=no b", "sharing=no"),
        ("FROM x\nRUN --mount=type=bnd,target=/a b", "type=bnd"),
        ("FROM x\nRUN --network=host a", "--network=host"),
        ("FROM x\nCOPY http://h/a /b", "http://h/a"),
        ("FROM x\nADD --checksum=sha256:1 a /b", "sha256:1"),
        ("FROM x\nEXPOSE 80 http", "http"),
        ("FROM x\nSTOPSIGNAL nine", "nine"),
        ("FROM x\nHEALTHCHECK --interval=3 CMD x", "3"),
        ("FROM x\nONBUILD FROM y", "FROM"),
        ("FROM x\nSHELL bash -c", "bash -c"),
        ("FROM x\nRUN <<E1\na\n", "E1"),
        ("FROM x\nCOPY --from=$S a /b", "$S"),
        ("FROM x\nCOPY --from=0 a /b", "--from"),
        ("# escape=x\nFROM x", "x"),
        ("# syntax=a/b\nFROM x", "a/b"),
        ("# check=eror=true\nFROM x", "eror"),
        ("FROM alpin", "alpin"),
        ("FROM --platform=a/b/c/d/e x", "a/b/c/d/e"),
    ] {
        let Err(error) = lower_with(text, &request()) else { panic!("{text}: no error") };
        let span = error.span.unwrap_or_else(|| panic!("{text}: {error}: no words"));
        assert!(error.hint.is_some(), "{text}: {error}: no hint");
        assert_eq!(&text[span.start..span.end], words, "{text}: {error}");
    }
}

#[test]
fn long_files_take_no_time() {
    let mut text = String::from("FROM x AS s0\n");
    for index in 0..500 {
        let name = index % 20;
        text.push_str(&format!(
            "ARG A{name}=v\nENV B{name}=${{A{name}:-x}}\nRUN echo $B \\\n  && true\n"
        ));
    }
    let started = std::time::Instant::now();
    let lowered = lower(&text);
    let (steps, lines) = (lowered.graph.len(), text.lines().count());
    println!("{steps} steps of {lines} lines in {:?}", started.elapsed());
    assert_eq!(steps, 501);
}
