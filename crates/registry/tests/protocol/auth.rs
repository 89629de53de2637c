use oci::media_type;
use registry::{Credentials, DockerConfig, Error, Expect, Pushed, Secret};
use testing::{BearerRules, FakeRegistry};

use super::*;

pub fn client_of(registry: &FakeRegistry, user: &str, password: &str) -> Client {
    let (username, password) = (user.into(), Secret::new(password));
    client_with(registry, Credentials::Password { username, password })
}

fn client_with(registry: &FakeRegistry, credentials: Credentials) -> Client {
    let docker_config = DockerConfig::default().with_credentials(&registry.host(), credentials);
    Client::new(Settings { docker_config, ..settings() }).unwrap()
}

fn rules() -> BearerRules {
    BearerRules { user: Some(("me".into(), "pw".into())), ..BearerRules::default() }
}

fn tokens(registry: &FakeRegistry) -> Vec<String> {
    let asked = registry.requests();
    asked.into_iter().filter(|line| line.contains("/token")).collect()
}

#[tokio::test]
async fn a_password_is_asked_for_once() {
    let registry = FakeRegistry::start();
    registry.put_manifest("a", Some("v1"), media_type::OCI_INDEX, "{}");
    registry.require_basic("me", "pw");
    let client = client_of(&registry, "me", "pw");
    client.ping(&registry.host()).await.unwrap();
    for _ in 0..2 {
        client.resolve(&reference(&registry, "a:v1")).await.unwrap();
    }
    assert_eq!(
        registry.requests(),
        ["GET /v2/", "GET /v2/", "HEAD /v2/a/manifests/v1", "HEAD /v2/a/manifests/v1"]
    );
}

#[tokio::test]
async fn wrong_or_missing_passwords_are_refused_by_name() {
    for bearer in [false, true] {
        let registry = FakeRegistry::start();
        match bearer {
            true => registry.require_bearer(rules()),
            false => registry.require_basic("me", "pw"),
        }
        let wrong = client_of(&registry, "me", "hunter2");
        let error = wrong.manifest(&reference(&registry, "a:v1")).await.unwrap_err();
        let Error::Unauthorized { host, user, .. } = &error else { panic!("{error:?}") };
        assert_eq!((host, user.as_deref()), (&registry.host(), Some("me")));
        let text = error.to_string();
        assert!(text.contains("user `me`") && !text.contains("hunter2"), "{text}");
        assert_eq!(registry.requests().len(), 2, "{:?}", registry.requests());

        let error = client().manifest(&reference(&registry, "a:v1")).await.unwrap_err();
        assert!(matches!(&error, Error::Unauthorized { user: None, .. }), "{error:?}");
        assert!(error.to_string().contains("anonymous"), "{error}");
    }
}

#[tokio::test]
async fn one_token_serves_a_repository() {
    let registry = FakeRegistry::start();
    registry.require_bearer(BearerRules { anonymous_pull: true, ..BearerRules::default() });
    let bytes = some_bytes(1000);
    registry.put_blob("a/b", bytes.clone());
    registry.put_manifest("a/b", Some("v1"), media_type::OCI_INDEX, "{}");
    let client = client();
    client.resolve(&reference(&registry, "a/b:v1")).await.unwrap();
    let from = repository(&registry, "a/b");
    let (one, two) = (layer(&bytes), layer(&bytes));
    futures_util::future::try_join(pull(&client, &from, &one), pull(&client, &from, &two))
        .await
        .unwrap();
    let requests = registry.requests();
    assert_eq!(requests.len(), 5, "{requests:?}");
    assert_eq!(requests[1], "GET /token?service=fake%2C+registry&scope=repository%3Aa%2Fb%3Apull");
}

#[tokio::test]
async fn a_refresh_token_is_exchanged() {
    let registry = FakeRegistry::start();
    registry.require_bearer(BearerRules { refresh_token: Some("refresh".into()), ..rules() });
    registry.put_manifest("a", Some("v1"), media_type::OCI_INDEX, "{}");
    let identity =
        |token: &str| Credentials::Identity { username: String::new(), token: Secret::new(token) };
    let client = client_with(&registry, identity("refresh"));
    client.resolve(&reference(&registry, "a:v1")).await.unwrap();
    assert_eq!(tokens(&registry), ["POST /token"]);
    let client = client_with(&registry, identity("stale"));
    let error = client.resolve(&reference(&registry, "a:v1")).await.unwrap_err();
    assert!(error.is_unauthorized(), "{error}");
}

#[tokio::test]
async fn a_registry_token_is_used_as_it_is() {
    let registry = FakeRegistry::start();
    registry.require_bearer(rules());
    let client = client_with(&registry, Credentials::Registry(Secret::new("mine")));
    let error = client.resolve(&reference(&registry, "a:v1")).await.unwrap_err();
    assert!(error.is_unauthorized(), "{error}");
    let seen = registry.seen();
    assert_eq!(seen.last().unwrap().authorization.as_deref(), Some("Bearer mine"));
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn tokens_that_end_in_a_transfer_are_renewed() {
    let registry = FakeRegistry::start();
    registry.require_bearer(BearerRules { uses: Some(1), ..rules() });
    let bytes = some_bytes(400_000);
    registry.put_blob("a", bytes.clone());
    for _ in 0..3 {
        registry.cut_blob_after(100_000);
    }
    let client = client_of(&registry, "me", "pw");
    let pulled = pull(&client, &repository(&registry, "a"), &layer(&bytes)).await.unwrap();
    assert!(pulled == bytes);
    assert_eq!(tokens(&registry).len(), 4);

    let bytes = some_bytes(300_000);
    registry.cut_upload_after(100_000);
    let to = repository(&registry, "b");
    client.push_blob(&to, &layer(&bytes), &bytes, &[], Expect::Unknown).await.unwrap();
    assert!(registry.blob(layer(&bytes).digest).unwrap() == bytes);
}

#[tokio::test]
async fn tokens_are_renewed_before_they_end() {
    let registry = FakeRegistry::start();
    registry.require_bearer(BearerRules { expires_in: Some(0), ..rules() });
    registry.put_manifest("a", Some("v1"), media_type::OCI_INDEX, "{}");
    let client = client_of(&registry, "me", "pw");
    for _ in 0..2 {
        client.resolve(&reference(&registry, "a:v1")).await.unwrap();
    }
    assert_eq!(tokens(&registry).len(), 2);
    assert_eq!(registry.requests().len(), 5, "no request was refused but the first");
}

#[tokio::test]
async fn a_mounts_token_allows_both_repositories() {
    let registry = FakeRegistry::start();
    registry.require_bearer(rules());
    registry.put_blob("base", &b"base"[..]);
    registry.refuse_mounts();
    let client = client_of(&registry, "me", "pw");
    let (to, from) = (repository(&registry, "app"), [repository(&registry, "base")]);
    let source = Bytes::from_static(b"base");
    let pushed = client.push_blob(&to, &layer(b"base"), &source, &from, Expect::New).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded(4));
    let asked = tokens(&registry);
    assert_eq!(asked.len(), 1, "the PUT has the mount's token: {asked:?}");
    assert!(asked[0].contains("app%3Apull%2Cpush&scope=repository%3Abase%3Apull"), "{asked:?}");
}

#[tokio::test]
async fn an_unwell_token_service_is_said_so() {
    let registry = FakeRegistry::start();
    let nobody = {
        let gone = FakeRegistry::start();
        gone.host()
    };
    let challenge = format!(r#"Bearer realm="http://{nobody}/token",service="x""#);
    registry.fail_next(1, 401, &[("WWW-Authenticate", &challenge)]);
    let error = client().resolve(&reference(&registry, "a:v1")).await.unwrap_err();
    assert!(matches!(&error, Error::Token { host, .. } if *host == registry.host()), "{error}");
    for challenge in ["Negotiate", "Bearer service=\"x\"", "Bearer realm=\"ftp://x/\""] {
        registry.fail_next(1, 401, &[("WWW-Authenticate", challenge)]);
        client().resolve(&reference(&registry, "a:v1")).await.unwrap_err();
    }
}
