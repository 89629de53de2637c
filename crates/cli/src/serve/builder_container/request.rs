//! A request for a builder container: which containers are some, and what of a request has an effect.

use ::engine::{ApiError, ContainerMount, ContainerNetwork, ContainerSpec, HostSpec, MountSource};
use oci::Reference;

use crate::args::FlagError;
use crate::personalities::daemon::rows::BUILDKITD;
use crate::personalities::flags::{self, Operands, ParsedFlags};

/// The beginning of the names that buildx gives its builders' containers.
const BUILDX: &str = "buildx_buildkit_";
/// The repository of BuildKit's image, on Docker Hub and on mirrors of it.
const REPOSITORY: &str = "moby/buildkit";
/// The program of that image.
const PROGRAM: &str = "buildkitd";
/// The most bytes of a request's texts, all of which are kept.
const MOST_TEXT: usize = 64 << 10;

/// True for BuildKit's image, which kiln is itself.
pub(in crate::serve) fn is_buildkit_image(image: &Reference) -> bool {
    let path = image.repository().path();
    let start = path.strip_suffix(REPOSITORY);
    start.is_some_and(|start| start.is_empty() || start.ends_with('/'))
}

/// True for a container that is a builder: by its name, or by its image.
pub(super) fn is_builder(name: Option<&str>, image: &str) -> bool {
    name.is_some_and(|name| name.starts_with(BUILDX))
        || image.parse().is_ok_and(|image: Reference| is_buildkit_image(&image))
}

/// A request as far as it has an effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BuilderRequest {
    /// The path of `buildkitd.toml` in the container, if a flag names one.
    pub(super) config: Option<String>,
    /// Sentences about what has no effect.
    pub(super) notes: Vec<String>,
}

/// Reads a request.
///
/// # Errors
/// If something is wrong, or is refused.
pub(super) fn read(spec: &ContainerSpec) -> Result<BuilderRequest, ApiError> {
    check_size(spec)?;
    let mut request = BuilderRequest::default();
    if !spec.image.parse().is_ok_and(|image: Reference| is_buildkit_image(&image)) {
        request.note(&spec.image, "kiln itself is the BuildKit of this container, not its image");
    }
    if let Some(program) = spec.entrypoint.iter().flatten().next().filter(|word| *word != PROGRAM) {
        return Err(refused(
            program,
            "this container is kiln itself, as buildkitd: it runs no other program",
        ));
    }
    let further = spec.entrypoint.iter().flatten().skip(1);
    let words: Vec<String> = further.chain(spec.command.iter().flatten()).cloned().collect();
    request.read_flags(&words)?;
    for variable in &spec.env {
        let name = variable.split('=').next().unwrap_or_default();
        request.note(
            name,
            "variables of buildkitd have no effect: kiln has those it was started with",
        );
    }
    if let Some(user) = &spec.user {
        request.note(user, "this container is the service itself, and has its user");
    }
    request.read_host(&spec.host)?;
    Ok(request)
}

fn refused(what: &str, why: &str) -> ApiError {
    ApiError::NotImplemented(format!("`{what}`: {why}"))
}

fn check_size(spec: &ContainerSpec) -> Result<(), ApiError> {
    let words = spec.command.iter().chain(&spec.entrypoint).flatten().chain(&spec.env);
    let labels = spec.labels.iter().flat_map(|(name, value)| [name, value]);
    let size: usize = words.chain(labels).chain([&spec.image]).map(String::len).sum();
    if size > MOST_TEXT {
        let message = format!("arguments, variables and labels are larger than {MOST_TEXT} bytes");
        return Err(ApiError::TooLarge(message));
    }
    Ok(())
}

impl BuilderRequest {
    fn note(&mut self, what: &str, why: &str) {
        self.notes.push(format!("`{what}`: {why}"));
    }

    /// Reads the flags of `buildkitd`.
    fn read_flags(&mut self, words: &[String]) -> Result<(), ApiError> {
        let words = words.strip_prefix(&[PROGRAM.to_owned()]).unwrap_or(words);
        let given = flags::read(BUILDKITD, words, Operands::Anywhere).map_err(flag_error)?;
        if let Some(word) = given.operands.first() {
            return Err(ApiError::BadRequest(format!("`{word}` belongs to no flag of buildkitd")));
        }
        self.notes.extend(given.notes.iter().cloned());
        self.read_addresses(&given)?;
        // A build that asks for what the service does not allow is told.
        given.all("allow-insecure-entitlement");
        self.config = given.last("config").map(str::to_owned);
        if let Some(root) = given.last("root") {
            self.note(&format!("--root={root}"), "kiln's root has the state of all builders");
        }
        if given.is_on("debug", false) | given.is_on("trace", false) {
            self.note("--debug", "KILN_LOG=debug of the service logs what it does");
        }
        // The socket, which nothing in this container needs, is the only thing that has a group.
        given.last("group");
        if given.is_on("version", false) {
            return Err(refused(
                "--version",
                "`docker exec CONTAINER buildkitd --version` prints it",
            ));
        }
        given.done().map_err(flag_error)
    }

    fn read_addresses(&mut self, given: &ParsedFlags) -> Result<(), ApiError> {
        let why = "this container has no address of its own: clients reach it by `docker exec`, and the service by \
                   those of `kiln serve`";
        if let Some(address) =
            given.all("addr").into_iter().find(|text| !text.starts_with("unix://"))
        {
            return Err(refused(&format!("--addr={address}"), why));
        }
        for name in ["tlscacert", "tlscert", "tlskey"] {
            if given.last(name).is_some() {
                self.note(&format!("--{name}"), why);
            }
        }
        Ok(())
    }

    fn read_host(&mut self, host: &HostSpec) -> Result<(), ApiError> {
        if host.network == ContainerNetwork::None {
            let why =
                "builds have the network of the service; `--network none` of a build takes it away";
            return Err(refused("network none", why));
        }
        if let Some(published) = host.published.first() {
            let why = "this container listens on no port: `kiln serve --addr tcp://…` does";
            return Err(refused(&published.port.to_string(), why));
        }
        if let Some(mount) = host.mounts.iter().find(|mount| is_bind(mount)) {
            let why =
                "nothing is mounted into this container: `docker cp` brings files to /etc/buildkit";
            return Err(refused(&mount.target, why));
        }
        for extra in &host.extra_hosts {
            self.note(&extra.name, "`--add-host` of a build adds it");
        }
        for ulimit in &host.ulimits {
            self.note(&ulimit.name, "`--ulimit` of a build sets it");
        }
        if host.shm_size.is_some() {
            self.note("shm-size", "`--shm-size` of a build sets it");
        }
        Ok(())
    }
}

fn is_bind(mount: &ContainerMount) -> bool {
    matches!(mount.source, MountSource::Bind { .. })
}

fn flag_error(error: FlagError) -> ApiError {
    match error {
        FlagError::Refused { .. } => ApiError::NotImplemented(error.to_string()),
        error => ApiError::BadRequest(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(words: &[&str]) -> ContainerSpec {
        ContainerSpec {
            image: "moby/buildkit:buildx-stable-1".into(),
            command: Some(words.iter().map(|word| (*word).to_owned()).collect()),
            ..ContainerSpec::default()
        }
    }

    #[test]
    fn builders_are_known_by_name_or_image() {
        for (name, image, expected) in [
            (Some("buildx_buildkit_x0"), "registry.example.com/tools/builder:1", true),
            (Some("b"), "moby/buildkit:master", true),
            (None, "docker.io/moby/buildkit:v0.29.0-rootless", true),
            (None, "mirror.example.com/hub/moby/buildkit@sha256:0", false),
            (None, "mirror.example.com/hub/moby/buildkit", true),
            (None, "mirror.example.com/notmoby/buildkit", false),
            (Some("x_buildx_buildkit_"), "busybox", false),
            (None, "", false),
        ] {
            assert_eq!(is_builder(name, image), expected, "{name:?} {image}");
        }
    }

    #[test]
    fn what_buildx_asks_for_is_taken_without_a_note() {
        let mut spec = spec(&[
            "--config",
            "/etc/buildkit/buildkitd.toml",
            "--allow-insecure-entitlement=network.host",
            // The default of GitHub's setup-buildx-action.
            "--allow-insecure-entitlement=security.insecure",
        ]);
        spec.host.privileged = true;
        spec.host.init = true;
        let request = read(&spec).unwrap();
        assert_eq!(request.config.as_deref(), Some("/etc/buildkit/buildkitd.toml"));
        assert_eq!(request.notes, Vec::<String>::new());
    }

    #[test]
    fn inputs_without_effect_are_noted_by_name() {
        let words = ["--root=/r", "--addr=unix:///run/x"];
        let mut spec = spec(&words);
        spec.image = "registry.example.com/tools/builder:1".into();
        spec.env = vec!["SECRET_TOKEN=s3cret".into()];
        let notes = read(&spec).unwrap().notes.join("\n");
        for part in ["`registry.example.com/tools/builder:1`", "--root=/r", "`SECRET_TOKEN`"] {
            assert!(notes.contains(part), "{part}: {notes}");
        }
        assert!(!notes.contains("s3cret"), "{notes}");
    }

    #[test]
    fn what_would_have_an_effect_elsewhere_is_refused_by_name() {
        let port = |spec: &mut ContainerSpec| {
            let port = ::engine::ContainerPort::parse("1234").unwrap();
            let address = String::new();
            spec.host.published.push(::engine::PublishedPort { port, address });
        };
        let bind = |spec: &mut ContainerSpec| {
            let source = MountSource::Bind { path: "/etc".into(), create: false };
            spec.host.mounts.push(ContainerMount {
                target: "/mnt".into(),
                read_only: true,
                source,
            });
        };
        let entrypoint = |spec: &mut ContainerSpec| spec.entrypoint = Some(vec!["sh".into()]);
        let large = |spec: &mut ContainerSpec| spec.env.push("x".repeat(MOST_TEXT));
        let network = |spec: &mut ContainerSpec| spec.host.network = ContainerNetwork::None;
        type Change<'a> = &'a dyn Fn(&mut ContainerSpec);
        let changes: [(Change<'_>, &str); 5] = [
            (&port, "`1234/tcp`"),
            (&bind, "`/mnt`"),
            (&entrypoint, "`sh`"),
            (&large, "65536 bytes"),
            (&network, "network none"),
        ];
        for (change, word) in changes {
            let mut spec = spec(&[]);
            change(&mut spec);
            let error = read(&spec).unwrap_err().to_string();
            assert!(error.contains(word), "{word}: {error}");
        }
        for (words, word) in [
            (&["--addr=tcp://0.0.0.0:1234"][..], "tcp://0.0.0.0:1234"),
            (&["--version"], "`--version`"),
            (&["--colour"], "--colour"),
            (&["serve"], "`serve`"),
        ] {
            let error = read(&spec(words)).unwrap_err().to_string();
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn every_flag_of_the_daemon_has_a_meaning_here() {
        crate::personalities::flags::testing::walk(BUILDKITD, |words| {
            let mut request = BuilderRequest::default();
            match request.read_flags(words) {
                // The daemon itself honours it.
                Ok(()) | Err(ApiError::NotImplemented(_)) => Ok(request.notes),
                Err(error) => panic!("{words:?}: {error}"),
            }
        });
    }
}
