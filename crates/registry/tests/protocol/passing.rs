//! A single fault of any kind, in any request, does not fail an operation.

use oci::media_type;
use registry::{Expect, Pushed};
use testing::{BearerRules, FakeRegistry, Fault};

use super::auth::client_of;
use super::*;

const MANIFEST: &str = r#"{"schemaVersion":2,"layers":[]}"#;
const NEW: &str = r#"{"schemaVersion":2,"layers":[],"annotations":{"a":"b"}}"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Login {
    None,
    Basic,
    Bearer,
}

/// A registry with a base image and authentication.
fn registry(login: Login) -> FakeRegistry {
    let registry = FakeRegistry::start();
    registry.put_manifest("base", Some("v1"), media_type::OCI_MANIFEST, MANIFEST);
    registry.put_blob("base", some_bytes(500));
    registry.put_blob("base", some_bytes(20_000));
    let user = Some(("me".to_owned(), "pw".to_owned()));
    match login {
        Login::None => {}
        Login::Basic => registry.require_basic("me", "pw"),
        Login::Bearer => registry.require_bearer(BearerRules { user, ..BearerRules::default() }),
    }
    registry
}

/// All kinds of requests that a build makes.
async fn work(client: &Client, registry: &FakeRegistry) -> Result<(), Error> {
    let (base, app) = (repository(registry, "base"), repository(registry, "app"));
    let (config, big, new) = (some_bytes(500), some_bytes(20_000), some_bytes(10_000));
    let name = reference(registry, "base:v1");
    let found = client.resolve(&name).await?;
    for name in [name.clone(), name.with_digest(found.digest)] {
        let (descriptor, bytes) = client.manifest(&name).await?;
        assert_eq!((descriptor, &bytes[..]), (found.clone(), MANIFEST.as_bytes()));
    }
    assert!(client.blob_bytes(&base, &layer(&config), 1 << 20).await? == config);
    let part = client.blob_part(&base, &layer(&big), 1000..3000).await?;
    // A part cannot be checked against the digest here.
    assert_eq!(part.len(), 2000);
    let whole = match pull(client, &base, &layer(&big)).await {
        // Bytes of a stream that were already returned cannot be taken back, so its caller must
        // retry.
        Err(error) if error.is_garbled() => pull(client, &base, &layer(&big)).await?,
        done => done?,
    };
    assert!(whole == big);
    let from = std::slice::from_ref(&base);
    client.push_blob(&app, &layer(&big), &big, from, Expect::Unknown).await?;
    let pushed = client.push_blob(&app, &layer(&new), &new, &[], Expect::Unknown).await?;
    assert!(matches!(pushed, Pushed::Existed | Pushed::Uploaded(_)));
    client.push_bytes(&app, &layer(&config), config.clone()).await?;
    let name = reference(registry, "app:v2");
    client.put_manifest(&name, media_type::OCI_MANIFEST, NEW.into()).await?;
    for blob in [&config, &big, &new] {
        let digest = layer(blob).digest;
        assert!(registry.has_blob("app", digest) && registry.blob(digest).unwrap() == *blob);
    }
    assert_eq!(&registry.manifest("app", "v2").unwrap().1[..], NEW.as_bytes());
    Ok(())
}

fn faults() -> Vec<Fault> {
    let mut faults = vec![
        Fault::status(429, None),
        Fault::status(429, Some(("Retry-After", "0"))),
        Fault::status(500, None),
        Fault::status(503, Some(("Retry-After", "soon"))),
    ];
    faults.extend([Fault::Reset, Fault::Unanswered, Fault::Cut, Fault::Short, Fault::Garbled]);
    faults
}

async fn with_fault(login: Login, count: usize, fault: Fault) -> Result<bool, Error> {
    let registry = registry(login);
    registry.fail_after(count, fault);
    work(&client_of(&registry, "me", "pw"), &registry).await?;
    Ok(registry.has_failed())
}

/// The number of requests without a fault.
async fn requests(login: Login) -> usize {
    let registry = registry(login);
    work(&client_of(&registry, "me", "pw"), &registry).await.unwrap();
    registry.requests().len()
}

#[tokio::test]
async fn each_request_may_go_wrong_once() {
    for login in [Login::None, Login::Basic, Login::Bearer] {
        let requests = requests(login).await;
        assert!(requests >= 12, "{login:?}: {requests}");
        for fault in faults() {
            for count in 0..requests {
                let done = with_fault(login, count, fault.clone()).await;
                let done = done.unwrap_or_else(|error| {
                    panic!("{login:?}, request {count}, {fault:?}: {}", oci::chain_text(&error))
                });
                assert!(done, "{login:?}: there is no request {count}");
            }
        }
    }
}

/// A session that expires after it was accepted.
#[tokio::test]
async fn a_refusal_of_who_was_let_in_before_is_asked_again() {
    for login in [Login::Basic, Login::Bearer] {
        let challenge = match login {
            Login::Bearer => continue_with_bearer(),
            _ => "Basic realm=\"fake\"".to_owned(),
        };
        let fault = Fault::status(401, Some(("WWW-Authenticate", &challenge)));
        // The first requests are those that ask for credentials.
        for count in 3..requests(login).await {
            let done = with_fault(login, count, fault.clone()).await;
            done.unwrap_or_else(|error| panic!("{login:?}, {count}: {}", oci::chain_text(&error)));
        }
    }
}

/// A challenge whose realm is relative to the registry that sends it.
fn continue_with_bearer() -> String {
    r#"Bearer realm="/token",service="fake, registry""#.into()
}

/// Credentials that were never accepted are not sent again, because repeated failures lock
/// accounts.
#[tokio::test]
async fn a_wrong_password_is_sent_once() {
    let registry = registry(Login::Basic);
    let client = client_of(&registry, "me", "wrong");
    client.resolve(&reference(&registry, "base:v1")).await.unwrap_err();
    let with_password = registry.seen().into_iter().filter(|seen| seen.authorization.is_some());
    assert_eq!(with_password.count(), 1);
}

/// Permanent faults are reported as what they are, after few requests.
#[tokio::test]
async fn faults_that_stay_end() {
    let registry = registry(Login::None);
    registry.lie_about_digest();
    let client = client();
    let error = client.manifest(&reference(&registry, "base:v1")).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert_eq!(registry.requests().len(), 2, "wrong bytes are not asked for as often as none");
    let (base, config) = (repository(&registry, "base"), some_bytes(500));
    let error = client.blob_bytes(&base, &layer(&config), 1 << 20).await.unwrap_err();
    assert!(error.to_string().contains(&registry.host()), "{error}");
    assert_eq!(registry.requests().len(), 4);
}
