//! Findings of the rules, with their lines; outlines and targets.

use std::sync::Arc;

use dockerfile::{
    Checked, Checking, Dockerfile, ImageRequest, Images, LowerRequest, Lowering, Outline,
    Outlining, RULES, ResolvedImage,
};
use graph::{ImageSource, SourceFile};
use oci::{Digest, ImageConfig, Platform};

fn parse(text: &str) -> Dockerfile {
    let source = SourceFile { name: "Dockerfile".into(), text: Arc::from(text) };
    Dockerfile::parse(source).expect("a Dockerfile")
}

fn request() -> LowerRequest {
    let mut request = LowerRequest::new(Platform::new("linux", "amd64", ""));
    request.excludes = vec!["secret.txt".into(), "sub".into()];
    request
}

/// Resolves every image, for amd64 only.
fn look_up(request: &ImageRequest) -> ResolvedImage {
    let mut config =
        ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
    config.rootfs.diff_ids = vec![Digest::of("layer")];
    let source = ImageSource {
        reference: request.reference.with_digest(Digest::of("manifest")),
        platform: request.platform.clone(),
        manifest: Digest::of("manifest"),
        diff_ids: config.rootfs.diff_ids.clone(),
    };
    ResolvedImage { source, config }
}

fn check_with(text: &str, request: &LowerRequest) -> Checked {
    let file = parse(text);
    let mut images = Images::new();
    loop {
        match file.check(request, &images) {
            Checking::Done(checked) => return checked,
            Checking::Needs(needs) => {
                for need in needs {
                    images.insert(&need, Ok(look_up(&need)));
                }
            }
        }
    }
}

/// Rules and lines, in the order of lines.
fn check(text: &str) -> Vec<(&'static str, u32)> {
    let checked = check_with(text, &request());
    assert_eq!(checked.error, None, "{text}");
    let found = checked.findings.iter();
    let mut found: Vec<_> = found.map(|f| (f.rule.name, f.lines.first)).collect();
    found.sort_by_key(|(_, line)| *line);
    found
}

#[track_caller]
fn breaks(rule: &str, text: &str, lines: &[u32]) {
    let expected: Vec<(&str, u32)> = lines.iter().map(|line| (rule, *line)).collect();
    assert_eq!(check(text), expected, "{text}");
    assert!(RULES.iter().any(|known| known.name == rule), "{rule}");
}

#[test]
fn names_and_casing() {
    breaks("StageNameCasing", "FROM x AS Base\nFROM base AS two\n", &[1]);
    breaks("FromAsCasing", "FROM x as a\nFROM x AS b\n", &[1]);
    breaks("ConsistentInstructionCasing", "FROM x\nrun a\nCopy a b\nENV a=b\nRUN c\n", &[2, 3]);
    breaks("ConsistentInstructionCasing", "from x\nrun a\nENV b=c\n", &[3]);
    breaks("DuplicateStageName", "FROM x AS a\nFROM x AS a\n", &[2]);
    breaks("ReservedStageName", "FROM x AS context\nFROM x AS scratch\n", &[1, 2]);
    breaks("NoEmptyContinuation", "FROM x\nRUN a \\\n\n b\n", &[4]);
    breaks("MaintainerDeprecated", "FROM x\nMAINTAINER me\n", &[2]);
}

#[test]
fn bases() {
    breaks("UndefinedArgInFrom", "ARG VERSION=1\nFROM x:1$VERSON\n", &[2]);
    breaks("UndefinedArgInFrom", "FROM x:${V:-1}\n", &[1]);
    let platform = "FROM --platform=$TARGETPLATFORM x\nFROM --platform=$BUILDPLATFORM x\n";
    breaks("RedundantTargetPlatform", platform, &[1]);
    let constant = "FROM --platform=linux/amd64 x\nFROM --platform=linux/amd64 x AS amd64\n";
    breaks("FromPlatformFlagConstDisallowed", constant, &[1]);
    breaks("InvalidBaseImagePlatform", "FROM --platform=linux/arm64 x AS arm64\n", &[1]);

    let mut request = request();
    request.build_args = vec![("BASE".into(), "x".into())];
    let checked = check_with("ARG BASE\nFROM $BASE\n", &request);
    assert_eq!(checked.findings[0].rule.name, "InvalidDefaultArgInFrom");
    assert_eq!(checked.findings.len(), 1);
}

#[test]
fn variables_and_secrets() {
    breaks("UndefinedVar", "FROM x\nARG a\nENV b=$a\nENV c=$d\nLABEL e=$b$f\n", &[4, 5]);
    breaks("UndefinedVar", "FROM x\nCOPY <<E /x\n$w\nE\nRUN echo $x\n", &[2]);
    breaks("LegacyKeyValueFormat", "FROM x\nENV a b c\nLABEL d=e f=g\nLABEL h i\n", &[2, 4]);
    let secrets = "FROM x\nARG API_KEY\nENV KEYFILE=1 TOKEN_FILE=2\nENV db_password=1\n";
    breaks("SecretsUsedInArgOrEnv", secrets, &[2, 4]);
    let near = &check_with("FROM x\nENV A=$PAHT\n", &request()).findings[0];
    assert_eq!(
        near.to_string(),
        "UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?) (line 2)"
    );
}

#[test]
fn instructions() {
    breaks("JSONArgsRecommended", "FROM x\nCMD a\nENTRYPOINT b\n", &[2, 3]);
    breaks("JSONArgsRecommended", "FROM x\nSHELL [\"/bin/sh\"]\nCMD a\n", &[]);
    let twice = "FROM x\nCMD [\"a\"]\nCMD [\"b\"]\nHEALTHCHECK NONE\nHEALTHCHECK NONE\n";
    breaks("MultipleInstructionsDisallowed", twice, &[2, 4]);
    let workdirs = "FROM x AS a\nWORKDIR b\nWORKDIR c\nFROM a\nWORKDIR d\nFROM x\nWORKDIR /e\n";
    breaks("WorkdirRelativePath", workdirs, &[2]);
    breaks("ExposeProtoCasing", "FROM x\nEXPOSE 80/TCP 81/udp\n", &[2]);
    breaks("ExposeInvalidFormat", "FROM x\nEXPOSE 8080:80\nEXPOSE 127.0.0.1:1:2\n", &[2, 3]);
    let copies =
        "FROM x AS a\nCOPY secret.txt /\nADD sub/x /\nCOPY . /\nFROM x\nCOPY --from=a sub /\n";
    breaks("CopyIgnoredFile", copies, &[2, 3]);
    let mut again = request();
    again.excludes.push("!sub/x".into());
    assert!(check_with("FROM x\nCOPY sub /\n", &again).findings.is_empty());
}

#[test]
fn descriptions_are_looked_at_when_asked() {
    let text = "# what it is\nFROM x AS a\n# b is told\nARG b\n";
    breaks("InvalidDefinitionDescription", text, &[]);
    let text = format!("# check=experimental=all\n#\n{text}");
    breaks("InvalidDefinitionDescription", &text, &[4]);
}

#[test]
fn options_leave_rules_aside() {
    let text = "FROM x\n# check=skip=UndefinedVar for now\nENV a=$b\nENV a=$b\n";
    breaks("UndefinedVar", text, &[4]);
    breaks("UndefinedVar", "# check=skip=UndefinedVar\nFROM x\nENV a=$b\n", &[]);
    breaks("UndefinedVar", "# check=skip=all;error=true\nFROM x\nENV a=$b\n", &[]);
    let mut request = request();
    request.build_args = vec![("BUILDKIT_DOCKERFILE_CHECK".into(), "skip=all".into())];
    assert!(check_with("FROM x\nENV a=$b\n", &request).findings.is_empty());
    request.build_args[0].1 = "skp=all".into();
    let error = check_with("FROM x\n", &request).error.expect("an option that is none");
    assert_eq!(error.message, "BUILDKIT_DOCKERFILE_CHECK: invalid check option \"skp\"");
}

#[test]
fn error_fails_builds_and_checks() {
    let text = "# check=error=true\nFROM scratch\nMAINTAINER me\nCMD x\n";
    let expected = "lint violation found for rules: JSONArgsRecommended, MaintainerDeprecated";
    let checked = check_with(text, &request());
    assert_eq!(checked.error.expect("a violation").message, expected);
    assert_eq!(checked.findings.len(), 2);
    let error = parse(text).lower(&request(), &Images::new()).expect_err("a violation");
    assert_eq!(error.message, expected);
}

#[test]
fn a_build_looks_at_what_it_needs() {
    let text = "FROM scratch AS other\nENV a=$b\nFROM scratch\nENV a=$c\n";
    breaks("UndefinedVar", text, &[2, 4]);
    let Ok(Lowering::Done(lowered)) = parse(text).lower(&request(), &Images::new()) else {
        panic!("it needs no image")
    };
    let lines: Vec<u32> = lowered.findings.iter().map(|f| f.lines.first).collect();
    assert_eq!(lines, [4]);
}

#[test]
fn what_was_found_before_an_error_is_kept() {
    let checked = check_with("FROM x\nMAINTAINER me\nCOPY --from=9 a b\n", &request());
    assert_eq!(checked.findings.len(), 1);
    assert_eq!(checked.error.expect("no such stage").lines.map(|lines| lines.first), Some(3));
}

fn outline(text: &str, target: &str) -> Outline {
    let mut request = request();
    request.target = Some(target.into());
    match parse(text).outline(&request, &Images::new()) {
        Ok(Outlining::Done(outline)) => outline,
        other => panic!("{other:?}"),
    }
}

#[test]
fn outlines_and_targets() {
    let text = "# BASE which one\nARG BASE=scratch\nARG UNUSED=1\nARG V=$BASE\n\
        # first goes before\nFROM ${BASE} AS first\n# q is q\nARG q=5\n\
        RUN --mount=type=secret,id=s,required=true true\nFROM first\nARG V\n\
        RUN --mount=type=secret,id=s --mount=type=ssh true\n";
    let first = outline(text, "first");
    let arguments = |outline: &Outline| -> Vec<(String, String, String)> {
        let all = outline.arguments.iter().cloned();
        all.map(|a| (a.name, a.value, a.description)).collect()
    };
    let row = |name: &str, value: &str, text: &str| (name.into(), value.into(), text.into());
    let of_first = [row("BASE", "scratch", "which one"), row("q", "5", "is q")];
    assert_eq!(arguments(&first), of_first);
    assert_eq!((first.name.as_str(), first.description.as_str()), ("first", "goes before"));
    assert!(first.secrets[0].required && first.agents.is_empty());
    let last = outline(text, "");
    assert_eq!(last.arguments.len(), 3);
    assert!(!last.secrets[0].required && last.secrets.len() == 1 && last.agents.len() == 1);

    let targets = parse(text).targets();
    assert_eq!((targets[0].base.as_str(), targets[0].is_default), ("${BASE}", false));
    assert_eq!((targets[1].name.as_str(), targets[1].is_default), ("", true));
}
