//! The resources of this process: its privilege, the store, the registry client, the runtime.

use std::ffi::OsString;
use std::path::PathBuf;

use build::{Host, Session};
use registry::{Client, ClientCertificate, Credentials, DockerConfig, HostsConfig, TrustRoots};
use runtime::ladder::{self, Decision, Probe, Unavailable};
use runtime::{Privilege, WantedIsolation};
use store::{OpenOptions, Privileges, Store, UnmappedOwners};

use crate::isolation;
use crate::render::CommandError;
use crate::settings::{Environment, Hidden, Settings};

/// Executes kiln again as root of a user namespace, if this process is not root and can have a
/// namespace. The new process starts over with the same arguments; this one waits for it and never
/// returns. For commands that use the store, because layers have files of several users. Must be
/// called before there are threads, and before standard input is read.
pub fn rise(settings: &Settings) -> Privilege {
    rise_for(settings, WantedIsolation::Auto)
}

/// [`rise`] for a build with this `--isolation`: the root user of a container who asks for a plain
/// folder stays in this process.
pub fn rise_for(settings: &Settings, flag: WantedIsolation) -> Privilege {
    let privilege = Privilege::of_process();
    let first = ladder::decide(&privilege, &Probe::default(), flag);
    if !matches!(first, Ok(Decision::ReexecInUserns)) {
        return privilege;
    }
    let mut args: Vec<OsString> = std::env::args_os().collect();
    if !settings.root_is_given {
        // kiln is root in the namespace, and would use the state folder of root.
        let mut root = OsString::from("--root=");
        root.push(&settings.root);
        args.insert(args.len().min(1), root);
    }
    runtime::reexec_in_userns(args)
}

/// The most that a store can do for a process with this privilege.
fn store_privileges(privilege: &Privilege) -> Privileges {
    match privilege {
        Privilege::Root => Privileges::Root,
        Privilege::NamespaceRoot { .. } => Privileges::UserNamespace,
        Privilege::Confined { .. } => Privileges::Chroot,
        Privilege::User { .. } => Privileges::None,
    }
}

/// A resource of this process that it cannot have.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The root cannot be used.
    #[error("{}", oci::chain_text(.0))]
    Store(#[from] Box<store::Error>),
    /// The registry client cannot be made, or a file of logins cannot be read.
    #[error("{}", oci::chain_text(.0))]
    Client(#[from] Box<registry::Error>),
    /// The logins of `DOCKER_AUTH_CONFIG` cannot be read.
    #[error("DOCKER_AUTH_CONFIG: {}", oci::chain_text(.0))]
    AuthVariable(#[source] Box<registry::Error>),
}

impl CommandError for MachineError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) if is_about_folder(error) => {
                Some("KILN_ROOT names another folder for kiln's state".to_owned())
            }
            _ => None,
        }
    }
}

/// True if an error is that of a folder which is missing or cannot be written.
fn is_about_folder(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let kinds = [NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem];
        kind.is_some_and(|kind| kinds.contains(&kind))
    })
}

/// Opens the store.
///
/// # Errors
/// If the root cannot be used.
pub fn open_store(settings: &Settings, privilege: &Privilege) -> Result<Store, MachineError> {
    let most = store_privileges(privilege);
    let privileged = match Privileges::of_root(&settings.root) {
        // A process that can mount can also work without mounts.
        Some(Privileges::Chroot) if most != Privileges::None => Privileges::Chroot,
        None if matches!(most, Privileges::Root | Privileges::UserNamespace) => {
            let can_mark = most.can_mark(&settings.root).map_err(Box::new)?;
            if can_mark { most } else { Privileges::Chroot }
        }
        _ => most,
    };
    let single = matches!(privilege, Privilege::NamespaceRoot { ids } if ids.is_single());
    let unmapped_owners = if single { UnmappedOwners::Ignore } else { UnmappedOwners::Refuse };
    let limits = settings.archive_limits;
    let options = OpenOptions { privileged, unmapped_owners, limits };
    Ok(Store::open(&settings.root, options).map_err(Box::new)?)
}

/// The session of this process: store, registry client, runtime.
///
/// # Errors
/// If the store cannot be opened, or the client cannot be made.
pub fn session(
    settings: &Settings,
    environment: &Environment,
    privilege: &Privilege,
    wanted: WantedIsolation,
) -> Result<Session, MachineError> {
    let store = open_store(settings, privilege)?;
    let runtime = isolation::start(settings, store.privileges(), privilege, wanted);
    Ok(Session::new(Host {
        runtime: runtime.map_err(|error| Unavailable::new(error.to_string())),
        store,
        client: client(settings, environment)?,
        engine: settings.docker_host.clone().unwrap_or_default(),
        verify_indexes: settings.verify_indexes,
    }))
}

/// The client for all registries, with the logins of docker's files.
///
/// # Errors
/// If a file or variable is wrong.
pub fn client(settings: &Settings, environment: &Environment) -> Result<Client, MachineError> {
    client_as(settings, environment, None)
}

/// [`client`] with credentials for a host that take precedence over all others.
///
/// # Errors
/// The errors of [`client`].
pub fn client_as(
    settings: &Settings,
    environment: &Environment,
    login: Option<(&str, Credentials)>,
) -> Result<Client, MachineError> {
    let mut docker_config = logins(settings, environment)?;
    if let Some((host, credentials)) = login {
        docker_config = docker_config.with_credentials(host, credentials);
    }
    client_with(settings, docker_config)
}

/// A client with these credentials, and none of docker's files.
///
/// # Errors
/// If a setting is wrong.
pub fn client_with(
    settings: &Settings,
    docker_config: DockerConfig,
) -> Result<Client, MachineError> {
    let mut docker_config = docker_config;
    let mut hosts = HostsConfig::default();
    for folder in certificate_folders(settings) {
        hosts = hosts.with_certs_dir(folder);
    }
    for (registry, mirror) in &settings.mirrors {
        hosts.host_mut(registry).mirrors.push(mirror.clone());
    }
    for registry in &settings.insecure_registries {
        hosts.host_mut(registry).insecure = true;
    }
    for registry in &settings.registries {
        let host = hosts.host_mut(&registry.host);
        host.insecure |= registry.insecure;
        host.plain_http = registry.plain_http.or(host.plain_http);
        host.ca.extend(registry.authorities.iter().cloned());
        host.client_certificates.extend(
            registry
                .client_certificate
                .clone()
                .map(|(certificate, key)| ClientCertificate { certificate, key }),
        );
        if let Some((username, password)) = &registry.login {
            let password = registry::Secret::new(password.expose());
            let login = Credentials::Password { username: username.clone(), password };
            docker_config = docker_config.with_credentials(&registry.host, login);
        }
    }
    if settings.insecure {
        hosts = hosts.with_insecure_everywhere();
    }
    let text = |hidden: &Option<Hidden>| hidden.as_ref().map(|hidden| hidden.expose().to_owned());
    let either = |own: &Option<Hidden>| text(own).or_else(|| text(&settings.proxies.all));
    let mut timeouts = registry::Timeouts::default();
    if let Some(idle) = settings.registry_timeout {
        timeouts.idle = idle;
    }
    let made = Client::new(registry::Settings {
        docker_config,
        hosts,
        proxies: registry::Proxies {
            http: either(&settings.proxies.http),
            https: either(&settings.proxies.https),
            none_for: settings.proxies.no.clone(),
        },
        roots: TrustRoots { file: settings.certificates.clone(), ..TrustRoots::default() },
        timeouts,
        ..registry::Settings::default()
    });
    Ok(made.map_err(Box::new)?)
}

/// The folders with certificates of registries, docker's and podman's.
fn certificate_folders(settings: &Settings) -> impl Iterator<Item = PathBuf> {
    let own = settings.docker_config.as_ref().map(|folder| folder.join("certs.d"));
    own.into_iter().chain(["/etc/docker/certs.d".into(), "/etc/containers/certs.d".into()])
}

/// The logins of `DOCKER_AUTH_CONFIG` first, then of docker's file, then of podman's.
fn logins(settings: &Settings, environment: &Environment) -> Result<DockerConfig, MachineError> {
    let mut logins = match &settings.docker_auth_config {
        Some(text) => DockerConfig::parse(text.expose())
            .map_err(|error| MachineError::AuthVariable(Box::new(error)))?,
        None => DockerConfig::default(),
    };
    let files = settings
        .docker_config
        .as_ref()
        .map(|folder| folder.join("config.json"))
        .into_iter()
        .chain(settings.registry_auth_file.clone());
    for file in files {
        logins = logins.merge(DockerConfig::load(&file).map_err(Box::new)?);
    }
    logins.helper_path = environment.get("PATH").map(Into::into);
    Ok(logins)
}

/// The program and its system, printed after a failure with `--debug`.
pub fn description() -> String {
    let system = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    format!(
        "\n{}{} {}, user {}, {:?}\n",
        crate::commands::version::text(),
        text(system.sysname()),
        text(system.release()),
        rustix::process::getuid().as_raw(),
        Privilege::of_process(),
    )
}

/// The hint for a request that a registry refused for its credentials.
pub fn login_hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.find_map(|cause| match cause.downcast_ref::<registry::Error>()? {
        registry::Error::Unauthorized { registry, user: None, .. } => Some(format!(
            "`kiln login {registry}` logs in; DOCKER_CONFIG and DOCKER_AUTH_CONFIG name other logins"
        )),
        registry::Error::Unauthorized { registry, user: Some(user), .. } => Some(format!(
            "`{user}` is not let in: a token may be too old, or for something else; `kiln login {registry}` \
             logs in anew"
        )),
        registry::Error::Denied { host, .. } => Some(format!(
            "this user may not do that; `kiln login {host}` logs in as another"
        )),
        _ => None,
    })
}
