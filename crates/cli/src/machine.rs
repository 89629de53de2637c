//! The resources of this process: its privilege, the store, the registry client, the runtime.

use std::ffi::OsString;
use std::path::PathBuf;

use build::{Host, Session};
use registry::{Client, ClientCertificate, Credentials, DockerConfig, HostsConfig, TrustRoots};
use runtime::Privilege;
use runtime::ladder::{self, Decision, Probe};
use store::{OpenOptions, Privileges, Store, UnmappedOwners};

use crate::args::Isolation;
use crate::isolation;
use crate::settings::{Environment, Hidden, Settings};

/// Executes kiln again as root of a user namespace, if this process is not root and can have a
/// namespace. The new process starts over with the same arguments; this one waits for it and never
/// returns. For commands that use the store, because layers have files of several users. Must be
/// called before there are threads, and before standard input is read.
pub fn rise(settings: &Settings) -> Privilege {
    rise_for(settings, Isolation::Auto)
}

/// [`rise`] for a build with this `--isolation`: the root user of a container who asks for a plain
/// folder stays in this process.
pub fn rise_for(settings: &Settings, flag: Isolation) -> Privilege {
    let privilege = Privilege::of_process();
    let first = ladder::decide(&privilege, &Probe::default(), isolation::wanted(flag));
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

/// Opens the store.
///
/// # Errors
/// If the root cannot be used; the text says why.
pub fn open_store(settings: &Settings, privilege: &Privilege) -> Result<Store, String> {
    let most = store_privileges(privilege);
    let privileged = match Store::made_for(&settings.root) {
        // A process that can mount can also work without mounts.
        Some(Privileges::Chroot) if most != Privileges::None => Privileges::Chroot,
        None if matches!(most, Privileges::Root | Privileges::UserNamespace) => {
            let can_mark =
                Store::can_mark(&settings.root, most).map_err(|error| unusable(&error))?;
            if can_mark { most } else { Privileges::Chroot }
        }
        _ => most,
    };
    let single = matches!(privilege, Privilege::NamespaceRoot { ids } if ids.is_single());
    let unmapped_owners = if single { UnmappedOwners::Ignore } else { UnmappedOwners::Refuse };
    let limits = settings.archive_limits;
    Store::open(&settings.root, OpenOptions { privileged, unmapped_owners, limits })
        .map_err(|error| unusable(&error))
}

/// The error of a root that cannot be used, with a hint if its folder cannot be written.
fn unusable(error: &(dyn std::error::Error + 'static)) -> String {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let is_place = causes.any(|cause| {
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let kinds = [NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem];
        kind.is_some_and(|kind| kinds.contains(&kind))
    });
    let text = oci::chain_text(error);
    match is_place {
        true => format!("{text}; kiln keeps its state there: KILN_ROOT names another folder"),
        false => text,
    }
}

/// The session of this process: store, registry client, runtime.
///
/// # Errors
/// If the store cannot be opened, or the client cannot be made.
pub fn session(
    settings: &Settings,
    environment: &Environment,
    privilege: &Privilege,
    wanted: Isolation,
) -> Result<Session, String> {
    let store = open_store(settings, privilege)?;
    Ok(Session::new(Host {
        runtime: isolation::start(settings, store.privileges(), privilege, wanted),
        store,
        client: client(settings, environment)?,
        engine: settings.docker_host.clone().unwrap_or_default(),
        verify_indexes: settings.verify_indexes,
    }))
}

/// The client for all registries, with the logins of docker's files.
///
/// # Errors
/// If a file or variable is wrong; the text names it.
pub fn client(settings: &Settings, environment: &Environment) -> Result<Client, String> {
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
) -> Result<Client, String> {
    let mut docker_config = logins(settings, environment)?;
    if let Some((host, credentials)) = login {
        docker_config = docker_config.with_credentials(host, credentials);
    }
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
    made.map_err(|error| oci::chain_text(&error))
}

/// The folders with certificates of registries, docker's and podman's.
fn certificate_folders(settings: &Settings) -> impl Iterator<Item = PathBuf> {
    let own = settings.docker_config.as_ref().map(|folder| folder.join("certs.d"));
    own.into_iter().chain(["/etc/docker/certs.d".into(), "/etc/containers/certs.d".into()])
}

/// The logins of `DOCKER_AUTH_CONFIG` first, then of docker's file, then of podman's.
fn logins(settings: &Settings, environment: &Environment) -> Result<DockerConfig, String> {
    let mut logins = match &settings.docker_auth_config {
        Some(text) => DockerConfig::parse(text.expose())
            .map_err(|error| format!("DOCKER_AUTH_CONFIG: {}", oci::chain_text(&error)))?,
        None => DockerConfig::default(),
    };
    let files = settings
        .docker_config
        .as_ref()
        .map(|folder| folder.join("config.json"))
        .into_iter()
        .chain(settings.registry_auth_file.clone());
    for file in files {
        logins = logins.merge(DockerConfig::load(&file).map_err(|error| oci::chain_text(&error))?);
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
