//! Redirects, and the credentials that are sent on the way.

use oci::media_type;
use registry::{Credentials, DockerConfig, Expect, Secret, WebRequest};
use testing::{Answer, BearerRules, FakeRegistry, FakeServer};

use super::auth::client_of;
use super::*;

const NEW: &str = r#"{"schemaVersion":2,"layers":[]}"#;

async fn push(client: &Client, registry: &FakeRegistry) -> Result<(), Error> {
    let (app, blob) = (repository(registry, "app"), some_bytes(100_000));
    client.push_blob(&app, &layer(&blob), &blob, &[], Expect::Unknown).await?;
    client
        .put_manifest(&reference(registry, "app:v1"), media_type::OCI_MANIFEST, NEW.into())
        .await?;
    Ok(())
}

fn rules() -> BearerRules {
    BearerRules { user: Some(("me".into(), "pw".into())), ..BearerRules::default() }
}

#[tokio::test]
async fn what_is_sent_goes_where_the_registry_says() {
    for status in [307, 308] {
        for base in ["", "http://HOST"] {
            let registry = FakeRegistry::start();
            registry.require_bearer(rules());
            registry.redirect_all(status, base.replace("HOST", &registry.host()));
            push(&client_of(&registry, "me", "pw"), &registry).await.unwrap();
            assert!(registry.has_blob("app", layer(&some_bytes(100_000)).digest));
            assert!(registry.manifest("app", "v1").is_some());
            let asked = registry.requests();
            for start in ["GET /token?", "POST /v2/", "PUT /v2/app/manifests"] {
                let of = |line: &&String| line.starts_with(start);
                let (moved, all) = (
                    asked.iter().filter(of).filter(|line| line.contains("moved=1")).count(),
                    asked.iter().filter(of).count(),
                );
                assert!(moved > 0 && all >= 2 * moved, "{start}: {asked:?}");
            }
        }
    }
}

#[tokio::test]
async fn redirects_that_lose_what_is_sent_are_refused_by_name() {
    for status in [301, 302, 303] {
        let registry = FakeRegistry::start();
        registry.redirect_all(status, "");
        let error = push(&client(), &registry).await.unwrap_err().to_string();
        assert!(error.contains("redirects") && error.contains("307"), "{error}");
    }
}

/// Another origin gets the content, but no credentials.
#[tokio::test]
async fn another_origin_is_not_told_who_asks() {
    let (registry, other) = (FakeRegistry::start(), FakeRegistry::start());
    registry.require_basic("me", "pw");
    registry.redirect_all(307, format!("http://{}", other.host()));
    push(&client_of(&registry, "me", "pw"), &registry).await.unwrap();
    let seen = other.seen();
    assert!(seen.iter().any(|seen| seen.line.starts_with("PUT /v2/app/manifests/v1")));
    assert!(seen.iter().all(|seen| seen.authorization.is_none()), "{seen:?}");
}

/// No password and no refresh token follows a token service to another origin.
#[tokio::test]
async fn a_token_service_elsewhere_gets_no_secret() {
    let (registry, other) = (FakeRegistry::start(), FakeRegistry::start());
    registry.require_bearer(BearerRules { refresh_token: Some("refresh".into()), ..rules() });
    other.require_bearer(BearerRules { anonymous_pull: true, ..BearerRules::default() });
    registry.redirect_all(307, format!("http://{}", other.host()));
    client_of(&registry, "me", "pw").resolve(&reference(&registry, "a:v1")).await.unwrap_err();
    let seen = other.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen[0].authorization.is_none() && seen[0].line.contains("/token"), "{seen:?}");

    other.forget_requests();
    let token = Secret::new("refresh");
    let identity = Credentials::Identity { username: String::new(), token };
    let docker_config = DockerConfig::default().with_credentials(&registry.host(), identity);
    let client = Client::new(Settings { docker_config, ..settings() }).unwrap();
    let error = client.resolve(&reference(&registry, "a:v1")).await.unwrap_err();
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(text.contains("cannot get a token") && text.contains("another host"), "{text}");
    assert_eq!(other.requests().len(), 0);
}

fn redirect(to: String) -> Answer {
    Answer { headers: vec![("location".into(), to)], ..Answer::of(302) }
}

fn with_authorization(server: &FakeServer) -> usize {
    server.asked().iter().filter(|asked| asked.headers.contains_key("authorization")).count()
}

/// After a redirect back there are no credentials, because the other origin chose the request.
#[tokio::test]
async fn a_way_that_leaves_and_returns_carries_nothing() {
    let home: std::sync::Arc<std::sync::OnceLock<String>> = std::sync::Arc::default();
    let back = home.clone();
    let between = FakeServer::start(move |_| redirect(format!("{}/secret", back.get().unwrap())));
    let to = between.url();
    let server = FakeServer::start(move |asked| match asked.target.as_str() {
        "/start" => redirect("/step".into()),
        "/step" => redirect(format!("{to}/x")),
        _ => Answer::text("end"),
    });
    home.set(server.url()).unwrap();
    let url = format!("{}/start", server.url());
    let authorization = Some(Secret::new("Bearer hunter2"));
    let request = WebRequest { url: &url, authorization, known: None };
    let answer = client().web(&request).await.unwrap();
    assert_eq!(answer.url().path(), "/secret");
    assert_eq!((server.asked().len(), with_authorization(&server)), (3, 2));
    assert_eq!(with_authorization(&between), 0);
}

/// User and password of an address are sent to its own host only, whatever its form. Those of a
/// redirect are dropped.
#[tokio::test]
async fn users_of_addresses() {
    let server = FakeServer::start(|asked| match asked.target.as_str() {
        "/away" => redirect(format!("http://eve:pw@{}/end", asked.headers["host"])),
        _ => Answer::text("end"),
    });
    let host = server.url().replace("http://", "");
    for (url, expected) in [
        (format!("http://me:pw@{host}/x"), 1),
        (format!("http://{host}/@me:pw@{host}/"), 0),
        (format!("http://{host}\\@trusted.example/x"), 0),
        (format!("http://{host}?@trusted.example/x"), 0),
        (format!("http://{host}#@trusted.example/x"), 0),
        (format!("http://{host}/away"), 0),
    ] {
        let before = with_authorization(&server);
        let request = WebRequest { url: &url, authorization: None, known: None };
        client().web(&request).await.unwrap();
        assert_eq!(with_authorization(&server) - before, expected, "{url}");
    }
}

/// A realm with plain HTTP would expose a password meant for TLS.
#[tokio::test]
async fn a_realm_is_not_worse_than_its_registry() {
    let realm = FakeServer::start(|_| Answer::text(r#"{"token":"t"}"#));
    for address in [realm.url(), realm.url().replace("http:", "HTTP:"), "//x".into()] {
        let registry = super::tls::registry("server");
        let challenge = format!(r#"Bearer realm="{address}/token",service="x""#);
        registry.fail_next(1, 401, &[("WWW-Authenticate", &challenge)]);
        let mut settings = settings();
        settings.hosts.host_mut(&registry.host()).ca = vec![super::tls::file("ca.crt")];
        let password = Secret::new("pw");
        let login = Credentials::Password { username: "me".into(), password };
        settings.docker_config = DockerConfig::default().with_credentials(&registry.host(), login);
        let client = Client::new(settings).unwrap();
        client.resolve(&reference(&registry, "a:v1")).await.unwrap_err();
    }
    assert_eq!(realm.asked().len(), 0);
}

/// A mirror gets its own credentials, or none.
#[tokio::test]
async fn a_mirror_does_not_get_the_registrys_password() {
    let (origin, mirror) = (FakeRegistry::start(), FakeRegistry::start());
    for registry in [&origin, &mirror] {
        registry.put_manifest("a", Some("v1"), media_type::OCI_MANIFEST, NEW);
        registry.require_basic("me", "pw");
    }
    let password = Secret::new("pw");
    let login = Credentials::Password { username: "me".into(), password };
    let docker_config = DockerConfig::default().with_credentials(&origin.host(), login);
    let mut settings = Settings { docker_config, ..settings() };
    settings.hosts.host_mut(&origin.host()).mirrors = vec![format!("http://{}", mirror.host())];
    let client = Client::new(settings).unwrap();
    client.manifest(&reference(&origin, "a:v1")).await.unwrap();
    assert!(mirror.seen().iter().all(|seen| seen.authorization.is_none()));
    assert!(!mirror.seen().is_empty());
}
