//! The flags of `buildctl build` and the options of the Dockerfile frontend as flags of a build.

use std::collections::BTreeMap;

use build::{Destination, Output, Policy};
use serde::Deserialize;

use crate::args::compound::{Fields, boolean};
use crate::args::{BuildFlags, Call, ContextFlag, FlagContext, FlagError, InFlag as _, NO_LIMIT};
use crate::personalities::flags::Given;
use crate::progress::Mode;

/// A cache as buildx sends it.
#[derive(Deserialize)]
struct CacheImport {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Attrs", default)]
    attributes: BTreeMap<String, String>,
}

/// Reads the flags of `buildctl build`.
///
/// # Errors
/// If one is missing, wrong or refused.
pub fn translate(given: &Given, context: FlagContext<'_>) -> Result<BuildFlags, FlagError> {
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
    let frontend = Frontend {
        options: named(given, "opt")?,
        locals: named(given, "local")?,
        layouts: named(given, "oci-layout")?,
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
fn named(given: &Given, flag: &'static str) -> Result<BTreeMap<String, String>, FlagError> {
    let pairs = given.all(flag).into_iter().map(|text| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(FlagError::bad(format!("--{flag} {text}"), "it is not NAME=VALUE")),
    });
    pairs.collect()
}

/// Reads the flags that `kiln build` has under other names.
fn read_flags(
    given: &Given,
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
        flags.add_cache_from("--import-cache", text, context.around())?;
    }
    for text in given.all("export-cache") {
        flags.add_cache_to("--export-cache", text, context.around())?;
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

fn progress(text: &str) -> Result<Mode, FlagError> {
    // buildctl's `quiet` prints no ID.
    if text == "quiet" {
        return Ok(Mode::None);
    }
    <Mode as clap::ValueEnum>::from_str(text, false).map_err(|_| {
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

/// The options of the Dockerfile frontend.
struct Frontend<'a> {
    options: BTreeMap<String, String>,
    locals: BTreeMap<String, String>,
    layouts: BTreeMap<String, String>,
    context: FlagContext<'a>,
    /// True if `source` names the frontend's image.
    has_source: bool,
}

impl Frontend<'_> {
    fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    fn local(&self, key: &str) -> Option<&str> {
        self.locals.get(key).map(String::as_str)
    }

    fn read(&self, flags: &mut BuildFlags) -> Result<(), FlagError> {
        if self.has_source {
            let source = self.option("source").unwrap_or_default();
            if !source.trim_start_matches("docker.io/").starts_with("docker/dockerfile") {
                return Err(FlagError::refused(
                    format!("--opt source={source}"),
                    "only docker/dockerfile is built in; other frontends are not run",
                ));
            }
        }
        for (name, value) in &self.options {
            match name.split_once(':') {
                Some((family, key)) => self.read_family(flags, family, key, value)?,
                None => self.read_option(flags, name, value)?,
            }
        }
        flags.context = ContextFlag::Named(self.context()?);
        flags.file = self.file();
        Ok(())
    }

    fn context(&self) -> Result<String, FlagError> {
        let key = self.option("contextkey").unwrap_or("context");
        match (self.option("context"), self.local(key)) {
            (Some(remote), _) => Ok(remote.to_owned()),
            (None, Some(folder)) => Ok(match self.option("contextsubdir") {
                Some(sub) => format!("{}/{sub}", folder.trim_end_matches('/')),
                None => folder.to_owned(),
            }),
            (None, None) => Err(FlagError::Missing {
                flag: format!("--local {key}=DIR"),
                hint: "the folder with the files".into(),
            }),
        }
    }

    fn file(&self) -> Option<String> {
        let filename = self.option("filename");
        match self.local(self.option("dockerfilekey").unwrap_or("dockerfile")) {
            Some(folder) => {
                let name = filename.unwrap_or("Dockerfile");
                Some(format!("{}/{name}", folder.trim_end_matches('/')))
            }
            None => filename.map(str::to_owned),
        }
    }

    /// Reads an option whose name has a part of its own: `build-arg:NAME`.
    fn read_family(
        &self,
        flags: &mut BuildFlags,
        family: &str,
        key: &str,
        value: &str,
    ) -> Result<(), FlagError> {
        let flag = format!("--opt {family}:{key}={value}");
        if key.is_empty() {
            return Err(FlagError::bad(flag, "it has no name"));
        }
        match family {
            "build-arg" => flags.build_arguments.set(key, Some(value)),
            "label" => flags.set_label(key, value),
            "context" => {
                let place = self.place(&flag, value)?;
                flags.add_named_context(&flag, key, &place, self.context.directory)?;
            }
            "vcs" if value.is_empty() => {}
            "vcs" => flags.set_vcs(key, value),
            "attest" => flags.attestations.ask(key, value).in_flag(&flag)?,
            _ => return Err(FlagError::bad(flag, "there is no such option")),
        }
        Ok(())
    }

    /// The value of a named context. `NAME::linux/amd64` is a context for one platform.
    fn place(&self, flag: &str, value: &str) -> Result<String, FlagError> {
        match value.split_once(':') {
            Some(("local", key)) => {
                let folder = self.local(key).map(str::to_owned);
                folder
                    .ok_or_else(|| FlagError::bad(flag, format!("there is no `--local {key}=DIR`")))
            }
            Some(("oci-layout", rest)) => {
                let rest = rest.trim_start_matches("//");
                let end = rest.find(['@', ':']).unwrap_or(rest.len());
                let (key, version) = rest.split_at(end);
                let folder = self.layouts.get(key).ok_or_else(|| {
                    FlagError::bad(flag, format!("there is no `--oci-layout {key}=DIR`"))
                })?;
                Ok(format!("oci-layout://{folder}{version}"))
            }
            _ => Ok(value.to_owned()),
        }
    }

    fn read_option(
        &self,
        flags: &mut BuildFlags,
        name: &str,
        value: &str,
    ) -> Result<(), FlagError> {
        let flag = format!("--opt {name}={value}");
        let parts = || value.split(',').filter(|part| !part.is_empty());
        match name {
            "target" | "platform" | "shm-size" | "ulimit" | "add-hosts" | "cgroup-parent"
                if value.is_empty() => {}
            // Read together elsewhere, once all of them are known.
            "filename" | "context" | "contextsubdir" | "contextkey" | "dockerfilekey"
            | "source" => {}
            "target" => flags.target = Some(value.to_owned()),
            "platform" => flags.add_platforms(&flag, value)?,
            "shm-size" => flags.set_shm_size(&flag, value)?,
            "cgroup-parent" => flags.set_cgroup_parent(&flag, value),
            "no-cache" if value.is_empty() => flags.no_cache = true,
            "no-cache" => flags.add_no_cache_stages(value),
            "add-hosts" => {
                for host in parts() {
                    flags.add_hosts(&flag, host)?;
                }
            }
            "ulimit" => {
                for limit in parts() {
                    flags.set_ulimit(&flag, limit)?;
                }
            }
            "force-network-mode" if value == "sandbox" => flags.set_network("--opt", "default")?,
            "force-network-mode" => flags.set_network("--opt force-network-mode", value)?,
            "image-resolve-mode" => match value {
                "pull" => flags.pull = true,
                "" | "default" | "local" => {}
                _ => return Err(FlagError::bad(flag, "there are default, pull and local")),
            },
            "cache-from" => {
                for reference in parts() {
                    flags.add_cache_from(&flag, reference, self.context.around())?;
                }
            }
            "cache-imports" => {
                let imports: Vec<CacheImport> = serde_json::from_str(value).map_err(|error| {
                    FlagError::bad(&flag, format!("it is no JSON of caches: {error}"))
                })?;
                for import in imports {
                    let fields = Fields::of_pairs(import.attributes);
                    let around = self.context.around();
                    flags.add_typed_cache_from(&flag, &import.kind, fields, around)?;
                }
            }
            "requestid" => flags.call = Call::parse(value).in_flag(&flag)?,
            "multi-platform" if boolean(value) == Some(false) => {}
            "multi-platform" => {
                let reason = "several platforms make an index anyway; leave it out";
                return Err(FlagError::refused(flag, reason));
            }
            "memory" | "memswap" | "cpushares" | "cpuperiod" | "cpuquota" | "cpusetcpus"
            | "cpusetmems" => {
                if !matches!(value, "" | "0") {
                    flags.notes.push(format!("`--opt {name}`: {NO_LIMIT}"));
                }
            }
            "hostname" => {
                let reason = "a step's host name is BuildKit's, and part of its key; leave it out";
                return Err(FlagError::refused(flag, reason));
            }
            _ => {
                let reason = "there is no such option; `buildctl --help` lists the options";
                return Err(FlagError::bad(flag, reason));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use build::{BackendSettings, CacheMode, CacheTarget, NamedContext, Secret};

    use super::*;
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
        assert_eq!((flags.progress, flags.policy), (Some(Mode::Plain), Policy::Disabled));
        assert_eq!(flags.secrets.get("a").map(Secret::value), Some(&b"/bin"[..]));
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
