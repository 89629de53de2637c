//! The flags of `buildctl build` and the options of the Dockerfile frontend as flags of a build.

use std::collections::BTreeMap;

use build::{Destination, Output, Policy};

use crate::args::compound::cache;
use crate::args::{BuildFlags, FlagContext, FlagError, FrontendOptions, Locals};
use crate::personalities::flags::ParsedFlags;
use crate::progress::ProgressMode;

/// Reads the flags of `buildctl build`.
///
/// # Errors
/// If one is missing, wrong or refused.
pub fn translate(given: &ParsedFlags, context: FlagContext<'_>) -> Result<BuildFlags, FlagError> {
    if let Some(word) = given.operands.first() {
        let text = format!("`{word}` belongs to no flag; LLB on standard input is not read");
        return Err(FlagError::Usage(text));
    }
    let Some(frontend) = given.last("frontend") else {
        return Err(FlagError::Missing {
            flag: "--frontend".into(),
            hint: "give `--frontend dockerfile.v0`; LLB on standard input is not read".into(),
        });
    };
    let (locals, layouts) = (named(given, "local")?, named(given, "oci-layout")?);
    let frontend = FrontendOptions {
        options: named(given, "opt")?,
        locals: Locals::Paths { locals: &locals, layouts: &layouts },
        context,
        has_source: frontend == "gateway.v0",
    };
    let mut flags = BuildFlags { policy: Policy::Disabled, ..BuildFlags::default() };
    frontend.read(&mut flags)?;
    read_flags(given, &mut flags, context)?;
    given.done()?;
    Ok(flags)
}

/// The values of a flag that have the form `NAME=VALUE`.
fn named(given: &ParsedFlags, flag: &'static str) -> Result<BTreeMap<String, String>, FlagError> {
    let pairs = given.all(flag).into_iter().map(|text| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(FlagError::bad(format!("--{flag} {text}"), "it is not NAME=VALUE")),
    });
    pairs.collect()
}

/// Reads the flags that `kiln build` has under other names.
fn read_flags(
    given: &ParsedFlags,
    flags: &mut BuildFlags,
    context: FlagContext<'_>,
) -> Result<(), FlagError> {
    // Empty values, which buildx ignores, are errors in buildctl.
    for flag in ["output", "import-cache", "export-cache", "secret", "ssh", "allow"] {
        if given.all(flag).contains(&"") {
            return Err(FlagError::bad(format!("--{flag}"), "it is empty"));
        }
    }
    for text in given.all("output") {
        flags.add_output("--output", text, context)?;
    }
    if flags.outputs.is_empty() {
        flags.outputs.push(Output::CacheOnly);
    }
    for output in &mut flags.outputs {
        to_stdout(output, context)?;
    }
    for text in given.all("import-cache") {
        flags.add_cache_from("--import-cache", cache::imports(text, context.around()))?;
    }
    for text in given.all("export-cache") {
        flags.add_cache_to("--export-cache", cache::exports(text, context.around()))?;
    }
    for text in given.all("secret") {
        flags.add_secret("--secret", text, context)?;
    }
    flags.set_ssh("--ssh", &given.texts("ssh"), context)?;
    for text in given.all("allow") {
        flags.allow("--allow", text)?;
    }
    flags.metadata_file = given.last("metadata-file").map(Into::into);
    flags.progress = given.last("progress").map(progress).transpose()?;
    flags.no_cache |= given.is_on("no-cache", false);
    Ok(())
}

fn progress(text: &str) -> Result<ProgressMode, FlagError> {
    // buildctl's `quiet` prints no ID.
    if text == "quiet" {
        return Ok(ProgressMode::None);
    }
    <ProgressMode as clap::ValueEnum>::from_str(text, false).map_err(|_| {
        let reason = "there are auto, plain, tty, rawjson and quiet";
        FlagError::bad(format!("--progress={text}"), reason)
    })
}

/// Sends an archive without a destination to standard output.
fn to_stdout(output: &mut Output, context: FlagContext<'_>) -> Result<(), FlagError> {
    if let Output::Docker(archive) = output
        && archive.destination.is_none()
    {
        if context.stdout_is_terminal {
            let reason =
                "`type=docker` needs `dest`, a file: an archive is not written to a terminal";
            return Err(FlagError::bad("--output", reason));
        }
        archive.destination = Some(Destination::Stdout);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use build::{BackendSettings, CacheMode, CacheTarget, NamedContext, SecretValue};

    use super::*;
    use crate::args::ContextFlag;
    use crate::personalities::buildctl::{BUILD, OPTIONS};
    use crate::personalities::flags::testing::walk;
    use crate::personalities::flags::{self, Operands};
    use crate::settings::Environment;

    fn of(words: &[String]) -> Result<(BuildFlags, Vec<String>), FlagError> {
        let environment = Environment::of(&[("PATH", "/bin"), ("SSH_AUTH_SOCK", "/none")]);
        let directory = Path::new("/tmp");
        let context =
            FlagContext { environment: &environment, directory, stdout_is_terminal: false };
        let given = flags::read(BUILD, words, Operands::Anywhere)?;
        Ok((translate(&given, context)?, given.notes))
    }

    fn line(words: &str) -> Result<BuildFlags, FlagError> {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        of(&words).map(|(flags, _)| flags)
    }

    #[test]
    fn every_flag_is_honoured_or_refused_by_name() {
        walk(BUILD, |words| {
            let mut words = words.to_vec();
            words.extend(["--frontend=dockerfile.v0", "--local=context=."].map(str::to_owned));
            match of(&words) {
                // The test has no agent, which is an error of the flag itself.
                Err(error) if words[0].starts_with("--ssh") => {
                    assert!(error.to_string().starts_with("`--ssh`: "), "{error}");
                    Ok(Vec::new())
                }
                result => result.map(|(_, notes)| notes),
            }
        });
    }

    #[test]
    fn every_option_is_known() {
        for (name, what) in OPTIONS {
            let name = name.replace(":NAME", ":x");
            let value = match name.as_str() {
                "cache-imports" => "[]",
                "image-resolve-mode" => "pull",
                "source" => "docker/dockerfile:1",
                "platform" => "linux/arm64",
                "add-hosts" => "db:10.0.0.2",
                "ulimit" => "nofile=1",
                "force-network-mode" => "none",
                "requestid" => "frontend.outline",
                "context:x" => "docker-image://alpine",
                "attest:sbom" | "attest:provenance" => "",
                _ => "1",
            };
            let base = "--frontend dockerfile.v0 --local context=. --local 1=.";
            let result = line(&format!("{base} --opt {name}={value}"));
            assert_eq!(
                result.is_err(),
                what.contains("refused") && name != "source",
                "{name}: {result:?}"
            );
            if let Err(error) = result {
                assert!(error.to_string().starts_with(&format!("`--opt {name}=")), "{error}");
            }
        }
        assert!(line("--frontend dockerfile.v0 --local context=. --opt frob=1").is_err());
    }

    #[test]
    fn a_line_becomes_the_flags_of_a_build() {
        let flags = line(
            "--frontend dockerfile.v0 --local context=src --local dockerfile=deploy/ --opt filename=app.Dockerfile \
             --opt build-arg:A=b=c --opt platform=linux/arm64 --output type=image,name=r/app,push=true \
             --export-cache type=registry,ref=r/app:c,mode=max --import-cache type=registry,ref=r/app:c \
             --progress plain --secret id=a,env=PATH",
        )
        .unwrap();
        assert_eq!(flags.context, ContextFlag::Named("src".into()));
        assert_eq!(flags.file.as_deref(), Some("deploy/app.Dockerfile"));
        assert_eq!(flags.platforms[0].to_string(), "linux/arm64");
        assert!(matches!(&flags.outputs[..], [Output::Image(image)] if image.push));
        assert_eq!((flags.cache_from.len(), flags.cache_to[0].mode), (1, CacheMode::Max));
        assert!(matches!(
            flags.cache_to[0].target,
            CacheTarget::Backend(BackendSettings::Registry(_))
        ));
        assert_eq!((flags.progress, flags.policy), (Some(ProgressMode::Plain), Policy::Disabled));
        assert_eq!(flags.secrets.get("a").map(SecretValue::value), Some(&b"/bin"[..]));
        let line_of = |rest: &str| line(&format!("--local context=. {rest}")).unwrap();
        let docker = "--frontend=gateway.v0 --opt source=docker/dockerfile:1 --output type=docker,name=a --no-cache";
        let flags = line_of(docker);
        assert!(flags.no_cache);
        assert!(matches!(&flags.outputs[..], [Output::Docker(archive)]
            if archive.destination == Some(Destination::Stdout)));
        let flags = line_of(
            "--frontend=dockerfile.v0 --local lib=/proc --opt context:lib=local:lib --opt no-cache=",
        );
        assert!(flags.no_cache && flags.outputs == [Output::CacheOnly]);
        assert_eq!(flags.build_contexts["lib"], NamedContext::Folder("/proc".into()));
        let imports = r#"--frontend=dockerfile.v0 --opt cache-imports=[{"Type":"registry","Attrs":{"ref":"a"}}]"#;
        assert_eq!(line_of(imports).cache_from.len(), 1);
    }

    #[test]
    fn wrong_lines_are_named() {
        for (words, word) in [
            ("--local context=.", "`--frontend` is missing"),
            ("--frontend x.v0 --local context=.", "`--frontend dockerfile.v0`"),
            ("--frontend gateway.v0 --opt source=me/mine --local context=.", "source=me/mine"),
            ("--frontend dockerfile.v0", "`--local context=DIR` is missing"),
            ("--frontend dockerfile.v0 --local context", "not NAME=VALUE"),
            ("--frontend dockerfile.v0 --local context=. --opt context:a=local:b", "--local b=DIR"),
            ("--frontend dockerfile.v0 --local context=. --trace t", "--progress=rawjson"),
        ] {
            let error = line(words).unwrap_err().to_string();
            assert!(error.contains(word), "{words}: {error}");
        }
    }
}
