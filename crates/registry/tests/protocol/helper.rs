use std::os::unix::fs::symlink;
use std::path::Path;

use registry::{Credentials, DockerConfig, Error, Secret};
use tempfile::TempDir;

use super::*;

/// A folder with the helper `docker-credential-test`, which stores its input in that folder.
fn folder() -> TempDir {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docker-credential-test");
    let dir = tempfile::tempdir().unwrap();
    symlink(script, dir.path().join("docker-credential-test")).unwrap();
    dir
}

fn path_of(dir: &TempDir) -> std::ffi::OsString {
    let mut path = dir.path().as_os_str().to_owned();
    path.push(":/usr/bin:/bin");
    path
}

fn password(password: &str) -> Credentials {
    Credentials::Password { username: "me".into(), password: Secret::new(password) }
}

fn calls(dir: &TempDir) -> String {
    std::fs::read_to_string(dir.path().join("calls")).unwrap_or_default()
}

#[tokio::test]
async fn a_helper_keeps_gives_and_forgets() {
    let dir = folder();
    let path = path_of(&dir);
    let file = dir.path().join("config.json");
    std::fs::write(&file, r#"{"credHelpers": {"r.io": "test"}, "detachKeys": "x"}"#).unwrap();
    let kept = DockerConfig::store(&file, "r.io", &password("p\"w"), Some(&path)).await.unwrap();
    assert_eq!(kept.as_deref(), Some("test"));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("p\\\"w") && text.contains("detachKeys"), "{text}");
    let mut config = DockerConfig::load(&file).unwrap();
    config.helper_path = Some(path.clone());
    for _ in 0..2 {
        let found = config.credentials(&Repository::new("r.io", "a")).await.unwrap();
        assert_eq!(found, Some(password("p\"w")));
    }
    assert_eq!(calls(&dir), "store\nget\n", "it is asked once, and told nothing by arguments");
    assert!(DockerConfig::erase(&file, "r.io", Some(&path)).await.unwrap());
    let mut config = DockerConfig::load(&file).unwrap();
    config.helper_path = Some(path);
    assert_eq!(config.credentials(&Repository::new("r.io", "a")).await.unwrap(), None);
    assert_eq!(config.credentials(&Repository::new("other.io", "a")).await.unwrap(), None);
    assert_eq!(calls(&dir), "store\nget\nerase\nget\n");
}

#[tokio::test]
async fn a_store_comes_before_the_file_and_after_a_helper() {
    let dir = folder();
    let text = r#"{"credsStore": "test", "credHelpers": {"r.io": "none"},
        "auths": {"hub.io": {"auth": "bWU6ZmlsZQ=="}, "https://index.docker.io/v1/": {}}}"#;
    let mut config = DockerConfig::parse(text).unwrap();
    config.helper_path = Some(path_of(&dir));
    std::fs::write(
        dir.path().join("kept"),
        r#"{"ServerURL":"https://index.docker.io/v1/","Username":"<token>","Secret":"refresh"}"#,
    )
    .unwrap();
    let found = config.credentials(&Repository::new("docker.io", "library/x")).await.unwrap();
    let token = Secret::new("refresh");
    assert_eq!(found, Some(Credentials::Identity { username: String::new(), token }));
    // The credential store does not know this host.
    let found = config.credentials(&Repository::new("hub.io", "x")).await.unwrap();
    assert_eq!(found, Some(password("file")));
    let error = config.credentials(&Repository::new("r.io", "x")).await.unwrap_err();
    assert!(matches!(&error, Error::Helper { helper, .. } if helper == "docker-credential-none"));
}

#[tokio::test]
async fn helpers_that_fail_are_named() {
    let dir = folder();
    for (kept, helper, word) in [
        ("fail: keychain is locked", "test", "keychain is locked"),
        ("garbage https://bad.io hunter2", "test", "not JSON"),
        ("", "../test", "not that of a program"),
        ("", "missing", "no such program"),
    ] {
        std::fs::write(dir.path().join("kept"), kept).unwrap();
        let text = format!(r#"{{"credHelpers": {{"https://bad.io": "{helper}"}}}}"#);
        let mut config = DockerConfig::parse(&text).unwrap();
        config.helper_path = Some(path_of(&dir));
        let repository = Repository::new("https://bad.io", "x");
        let error = config.credentials(&repository).await.unwrap_err().to_string();
        assert!(error.contains(word) && !error.contains("hunter2"), "{error}");
    }
}
