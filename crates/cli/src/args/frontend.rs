//! The options of the Dockerfile frontend (`--opt`), as flags of a build.

use std::collections::BTreeMap;
use std::io::Read;

use build::{ClientFolder, Context, DockerfileSource, NamedContext};
use serde::Deserialize;

use super::build_flags::{BuildFlags, FlagContext};
use super::call::Call;
use super::compound::context::{self, ContextFlag, from_stdin, remote_only};
use super::compound::{Fields, OptionError, boolean, cache};
use super::error::{FlagError, InFlag as _};
use super::other::NO_LIMIT;

/// A cache as buildx sends it.
#[derive(Deserialize)]
struct CacheImport {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Attrs", default)]
    attributes: BTreeMap<String, String>,
}

/// The folders that options name.
#[derive(Clone, Copy)]
pub enum Locals<'a> {
    /// Folders of this machine (`buildctl build --local`).
    Paths {
        /// By name.
        locals: &'a BTreeMap<String, String>,
        /// Folders of the OCI layout, by name.
        layouts: &'a BTreeMap<String, String>,
    },
    /// Those of a client, which names no path of this machine.
    Client(&'a dyn ClientLocals),
}

/// The folders of a client.
pub trait ClientLocals {
    /// A folder; none if the client has none of this name.
    fn folder(&self, name: &str) -> Option<ClientFolder>;

    /// The context of another solve's result.
    fn input(&self, name: &str) -> Option<NamedContext>;

    /// An image of the client that was brought here, by its address.
    fn layout(&self, address: &str) -> Option<NamedContext>;

    /// The bytes of an upload, by its address; none if it is none.
    fn upload(&self, address: &str) -> Option<Box<dyn Read + Send>>;
}

/// The options of the Dockerfile frontend, as `buildctl build --opt` and clients of BuildKit's API
/// give them.
pub struct FrontendOptions<'a> {
    /// The options.
    pub options: BTreeMap<String, String>,
    /// The folders.
    pub locals: Locals<'a>,
    /// The context in which values are read.
    pub context: FlagContext<'a>,
    /// True if `source` names the frontend's image.
    pub has_source: bool,
}

impl FrontendOptions<'_> {
    /// An option as it was given, for errors.
    fn flag(&self, name: &str, value: &str) -> String {
        match self.locals {
            Locals::Paths { .. } => format!("--opt {name}={value}"),
            Locals::Client(_) => format!("{name}={value}"),
        }
    }

    fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Fills the flags of a build.
    ///
    /// # Errors
    /// If an option is unknown, wrong or refused, or a folder is missing.
    pub fn read(&self, flags: &mut BuildFlags) -> Result<(), FlagError> {
        if self.has_source {
            let source = self.option("source").unwrap_or_default();
            if !source.trim_start_matches("docker.io/").starts_with("docker/dockerfile") {
                return Err(FlagError::refused(
                    self.flag("source", source),
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
        match self.locals {
            Locals::Paths { locals, .. } => {
                let local = |key: &str| locals.get(key).map(String::as_str);
                flags.context = ContextFlag::Named(self.context(local)?);
                flags.file = self.file(local);
            }
            Locals::Client(client) => {
                let (context, dockerfile) = self.opened(client)?;
                flags.context = ContextFlag::Opened(context, dockerfile);
            }
        }
        Ok(())
    }

    fn context<'l>(&self, local: impl Fn(&str) -> Option<&'l str>) -> Result<String, FlagError> {
        let key = self.option("contextkey").unwrap_or("context");
        match (self.option("context"), local(key)) {
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

    fn file<'l>(&self, local: impl Fn(&str) -> Option<&'l str>) -> Option<String> {
        let filename = self.option("filename");
        match local(self.option("dockerfilekey").unwrap_or("dockerfile")) {
            Some(folder) => {
                let name = filename.unwrap_or("Dockerfile");
                Some(format!("{}/{name}", folder.trim_end_matches('/')))
            }
            None => filename.map(str::to_owned),
        }
    }

    /// The context and the Dockerfile of a client.
    fn opened(&self, client: &dyn ClientLocals) -> Result<(Context, DockerfileSource), FlagError> {
        let filename = self.option("filename");
        let dockerfile = |key: &str| {
            let folder = client.folder(key)?;
            let name = filename.unwrap_or("Dockerfile").to_owned();
            Some(DockerfileSource::InClient(folder, name))
        };
        // A context that is elsewhere has its own Dockerfile, unless the client names a folder.
        let forced = self.option("dockerfilekey").and_then(dockerfile);
        let whole = |error: OptionError| FlagError::Usage(error.to_string());
        if let Some(address) = self.option("context") {
            let (context, own) = match client.upload(address) {
                Some(stream) => from_stdin(filename, stream).map_err(whole)?,
                None => remote_only(address, filename).map_err(whole)?,
            };
            let context = self.below(context)?;
            return Ok((context, forced.unwrap_or(own)));
        }
        if let Some(sub) = self.option("contextsubdir") {
            let flag = self.flag("contextsubdir", sub);
            return Err(FlagError::refused(flag, "give the folder itself as the context"));
        }
        let key = self.option("contextkey").unwrap_or("context");
        let missing = |key: &str| FlagError::Missing {
            flag: format!("--local {key}=DIR"),
            hint: "the client sends no such folder".into(),
        };
        let dockerfile = forced.or_else(|| dockerfile("dockerfile"));
        let dockerfile = dockerfile.ok_or_else(|| missing("dockerfile"))?;
        let folder = client.folder(key).ok_or_else(|| missing(key))?;
        Ok((Context::Client(folder), dockerfile))
    }

    /// A remote context, or the folder of it that `contextsubdir` names.
    fn below(&self, mut context: Context) -> Result<Context, FlagError> {
        let Some(sub) = self.option("contextsubdir") else { return Ok(context) };
        if let Context::Git(git) = &mut context
            && git.source.subdir.is_empty()
        {
            sub.clone_into(&mut git.source.subdir);
            return Ok(context);
        }
        let flag = self.flag("contextsubdir", sub);
        Err(FlagError::refused(flag, "name the folder in the address of a repository"))
    }

    /// Reads an option whose name has a part of its own: `build-arg:NAME`.
    fn read_family(
        &self,
        flags: &mut BuildFlags,
        family: &str,
        key: &str,
        value: &str,
    ) -> Result<(), FlagError> {
        let flag = self.flag(&format!("{family}:{key}"), value);
        if key.is_empty() {
            return Err(FlagError::bad(flag, "it has no name"));
        }
        match family {
            "build-arg" => flags.build_arguments.set(key, Some(value)),
            "label" => flags.set_label(key, value),
            "context" => self.read_named(flags, &flag, key, value)?,
            // Read with the folder that they are about.
            "local-sessionid" | "sharedkey" if self.is_client() => {}
            // The config of an input is in the image that the input is.
            "input" | "input-metadata" if self.is_client() => {}
            "vcs" if value.is_empty() => {}
            "vcs" => flags.set_vcs(key, value),
            "attest" => flags.attestations.ask(key, value).in_flag(&flag)?,
            _ => return Err(FlagError::bad(flag, "there is no such option")),
        }
        Ok(())
    }

    fn is_client(&self) -> bool {
        matches!(self.locals, Locals::Client(_))
    }

    /// A named context. `NAME::linux/amd64` is a context for one platform.
    fn read_named(
        &self,
        flags: &mut BuildFlags,
        flag: &str,
        key: &str,
        value: &str,
    ) -> Result<(), FlagError> {
        let missing =
            |name: &str| FlagError::bad(flag, format!("there is no `--local {name}=DIR`"));
        match (self.locals, value.split_once(':')) {
            (Locals::Paths { locals, .. }, Some(("local", name))) => {
                let folder = locals.get(name).ok_or_else(|| missing(name))?;
                flags.add_named_context(flag, key, folder, self.context.directory)
            }
            (Locals::Paths { layouts, .. }, Some(("oci-layout", rest))) => {
                let rest = rest.trim_start_matches("//");
                let end = rest.find(['@', ':']).unwrap_or(rest.len());
                let (name, version) = rest.split_at(end);
                let folder = layouts.get(name).ok_or_else(|| {
                    FlagError::bad(flag, format!("there is no `--oci-layout {name}=DIR`"))
                })?;
                let address = format!("oci-layout://{folder}{version}");
                flags.add_named_context(flag, key, &address, self.context.directory)
            }
            (Locals::Paths { .. }, _) => {
                flags.add_named_context(flag, key, value, self.context.directory)
            }
            (Locals::Client(client), scheme) => {
                let found = match scheme {
                    Some(("local", name)) => {
                        NamedContext::Client(client.folder(name).ok_or_else(|| missing(name))?)
                    }
                    Some(("input", name)) => client.input(name).ok_or_else(|| {
                        FlagError::bad(flag, format!("there is no input `{name}`"))
                    })?,
                    Some(("oci-layout", _)) => client
                        .layout(value)
                        .ok_or_else(|| FlagError::bad(flag, "the client has no such image"))?,
                    _ => context::named_elsewhere(key, value).in_flag(flag)?,
                };
                flags.add_opened_context(flag, key, found)
            }
        }
    }

    fn read_option(
        &self,
        flags: &mut BuildFlags,
        name: &str,
        value: &str,
    ) -> Result<(), FlagError> {
        let flag = self.flag(name, value);
        let parts = || value.split(',').filter(|part| !part.is_empty());
        match name {
            "target" | "platform" | "shm-size" | "ulimit" | "add-hosts" | "cgroup-parent"
                if value.is_empty() => {}
            // The client's own tests of what the frontend can do; the command line that it shows.
            "frontend.caps" | "cmdline" if self.is_client() => {}
            // Clients send them as typed caches too.
            "cache-imports" if self.is_client() => {}
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
            "force-network-mode" if value == "sandbox" => flags.set_network(&flag, "default")?,
            "force-network-mode" => flags.set_network("force-network-mode", value)?,
            "image-resolve-mode" => match value {
                "pull" => flags.pull = true,
                "" | "default" | "local" => {}
                _ => return Err(FlagError::bad(flag, "there are default, pull and local")),
            },
            "cache-from" => {
                for reference in parts() {
                    let read = cache::imports(reference, self.context.around());
                    flags.add_cache_from(&flag, read)?;
                }
            }
            "cache-imports" => {
                let imports: Vec<CacheImport> = serde_json::from_str(value).map_err(|error| {
                    FlagError::bad(&flag, format!("it is no JSON of caches: {error}"))
                })?;
                for import in imports {
                    let fields = Fields::of_pairs(import.attributes);
                    let around = self.context.around();
                    let read = cache::import_of_type(&import.kind, fields, around);
                    flags.add_cache_from(&flag, read)?;
                }
            }
            "requestid" => flags.call = Call::parse(value).in_flag(&flag)?,
            "multi-platform" if boolean(value) == Some(false) => {}
            "multi-platform" if self.is_client() => {
                flags.build_arguments.set("BUILDKIT_MULTI_PLATFORM", Some(value));
            }
            "multi-platform" => {
                let reason = "several platforms make an index anyway; leave it out";
                return Err(FlagError::refused(flag, reason));
            }
            "memory" | "memswap" | "cpushares" | "cpuperiod" | "cpuquota" | "cpusetcpus"
            | "cpusetmems" => {
                if !matches!(value, "" | "0") {
                    flags.notes.push(format!("`{name}`: {NO_LIMIT}"));
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
    use std::sync::Arc;

    use build::{BroughtFolder, ClientError, FolderQuery, FolderSource};

    use super::*;
    use crate::personalities::buildctl::OPTIONS;
    use crate::settings::Environment;

    struct NoFiles;

    impl FolderSource for NoFiles {
        fn bring(&self, _: FolderQuery<'_>) -> Result<BroughtFolder, ClientError> {
            Err(ClientError::new("no files"))
        }
    }

    /// A client with the folders `context`, `dockerfile` and `lib`, and an upload.
    struct FakeClient(ClientFolder);

    impl ClientLocals for FakeClient {
        fn folder(&self, name: &str) -> Option<ClientFolder> {
            ["context", "dockerfile", "lib"].contains(&name).then(|| self.0.clone())
        }

        fn input(&self, name: &str) -> Option<NamedContext> {
            (name == "base").then_some(NamedContext::Scratch)
        }

        fn layout(&self, address: &str) -> Option<NamedContext> {
            address.contains("known").then_some(NamedContext::Scratch)
        }

        fn upload(&self, address: &str) -> Option<Box<dyn Read + Send>> {
            address.ends_with("/upload").then(|| Box::new("FROM scratch".as_bytes()) as _)
        }
    }

    fn read(options: &[(&str, &str)]) -> Result<BuildFlags, FlagError> {
        let client = FakeClient(ClientFolder(Arc::new(NoFiles)));
        let environment = Environment::default();
        let context = FlagContext {
            environment: &environment,
            directory: Path::new("/"),
            stdout_is_terminal: false,
        };
        let options = options.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let options = FrontendOptions {
            options: options.collect(),
            locals: Locals::Client(&client),
            context,
            has_source: false,
        };
        let mut flags = BuildFlags::default();
        options.read(&mut flags).map(|()| flags)
    }

    #[test]
    fn a_clients_options_are_honoured_or_refused_by_name() {
        let own = ["local-sessionid:x", "sharedkey:localdir:x", "input:x", "input-metadata:x"];
        let own = own.into_iter().chain(["frontend.caps", "cmdline"]).map(|name| (name, ""));
        for (name, what) in OPTIONS.iter().copied().chain(own) {
            let name = name.replace(":NAME", ":x");
            let value = match name.as_str() {
                "cache-imports" => "[]",
                "context" => "https://example.com/a.git",
                "contextkey" | "dockerfilekey" => "lib",
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
            let result = read(&[(&name, value)]);
            let is_refused = matches!(name.as_str(), "hostname" | "contextsubdir");
            assert_eq!(result.is_err(), is_refused, "{name} ({what}): {result:?}");
            if let Err(error) = result {
                assert!(error.to_string().starts_with(&format!("`{name}=")), "{error}");
            }
        }
        assert!(read(&[("frob", "1")]).unwrap_err().to_string().contains("`frob=1`"));
    }

    #[test]
    fn a_clients_contexts_never_name_a_path_of_this_machine() {
        for value in ["/etc", ".", "../x", "file:///etc", "oci-layout://other@sha256:0"] {
            assert!(read(&[("context:x", value)]).is_err(), "{value}");
        }
        for value in ["/etc", ".", "file:///etc"] {
            assert!(read(&[("context", value)]).is_err(), "{value}");
        }
        let flags = read(&[("context:x", "local:lib"), ("filename", "a/Dockerfile")]).unwrap();
        assert!(matches!(flags.build_contexts.get("x"), Some(NamedContext::Client(_))));
        let ContextFlag::Opened(Context::Client(_), DockerfileSource::InClient(_, name)) =
            &flags.context
        else {
            panic!("{:?}", flags.context);
        };
        assert_eq!(name, "a/Dockerfile");
        assert!(read(&[("context:x", "local:none")]).is_err());
        let flags = read(&[("context:x", "input:base")]).unwrap();
        assert!(matches!(flags.build_contexts.get("x"), Some(NamedContext::Scratch)));
        let flags = read(&[("context", "http://buildkit-session/upload")]).unwrap();
        assert!(matches!(flags.context, ContextFlag::Opened(Context::Empty, _)));
    }
}
