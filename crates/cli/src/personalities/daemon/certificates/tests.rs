use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::*;

const FILES: [(&str, u32); 8] = [
    ("ca/key.pem", 0o600),
    ("ca/cert.pem", 0o644),
    ("server/key.pem", 0o600),
    ("server/cert.pem", 0o644),
    ("server/ca.pem", 0o644),
    ("client/key.pem", 0o644),
    ("client/cert.pem", 0o644),
    ("client/ca.pem", 0o644),
];
const DAY: Duration = Duration::from_secs(86_400);

fn names(more: &str) -> BTreeSet<SubjectName> {
    subject_names(&MachineNames::default(), more).unwrap()
}

fn texts(folder: &Path) -> Vec<Vec<u8>> {
    FILES.map(|(name, _)| std::fs::read(folder.join(name)).unwrap()).to_vec()
}

fn keys(folder: &Path) -> Vec<Vec<u8>> {
    ["ca/key.pem", "server/key.pem", "client/key.pem"]
        .map(|name| std::fs::read(folder.join(name)).unwrap())
        .to_vec()
}

#[test]
fn certificates_are_made_once_for_a_set_of_names() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("certs");
    let now = SystemTime::now();
    let ready = prepare(&folder, &names(""), now).unwrap();
    assert_eq!((ready.key.clone(), ready.warning.clone()), (folder.join("server/key.pem"), None));
    drop(ready);
    for (name, mode) in FILES {
        let metadata = std::fs::metadata(folder.join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{name}");
    }
    let first = texts(&folder);
    drop(prepare(&folder, &names(""), now).unwrap());
    assert_eq!(texts(&folder), first);

    // Another name, and an end that is near, make new certificates of the same keys.
    let known = keys(&folder);
    drop(prepare(&folder, &names("DNS:builds.example.com"), now).unwrap());
    let second = texts(&folder);
    assert!(second != first && keys(&folder) == known);
    drop(prepare(&folder, &names("DNS:builds.example.com"), now + 790 * DAY).unwrap());
    assert!(texts(&folder) == second);
    drop(prepare(&folder, &names("DNS:builds.example.com"), now + 800 * DAY).unwrap());
    assert!(texts(&folder) != second && keys(&folder) == known);
}

#[test]
fn a_missing_or_strange_file_is_made_again_or_named() {
    let place = tempfile::tempdir().unwrap();
    let (folder, now) = (place.path(), SystemTime::now());
    drop(prepare(folder, &names(""), now).unwrap());
    for (name, _) in FILES {
        std::fs::remove_file(folder.join(name)).unwrap();
        if name == "ca/key.pem" {
            // Without it the rest would be the user's.
            std::fs::remove_file(folder.join("server/cert.pem")).unwrap();
            let error = prepare(folder, &names(""), now).unwrap_err();
            assert!(matches!(error, CertificateError::NoAuthorityKey(_)), "{error}");
            std::fs::remove_file(folder.join("ca/cert.pem")).unwrap();
        }
        drop(prepare(folder, &names(""), now).unwrap());
        let certificate = certificate(&CertificateFolder::new(folder), "server/cert.pem").unwrap();
        assert!(names("").iter().all(|name| validity::is_for(&certificate, name)), "{name}");
        assert!(texts(folder).iter().all(|text| !text.is_empty()), "{name}");
    }
    std::fs::write(folder.join("client/key.pem"), "nothing").unwrap();
    let error = prepare(folder, &names(""), now).unwrap_err().to_string();
    assert!(error.contains("client/key.pem"), "{error}");
}

#[test]
fn the_users_certificates_stay_as_they_are() {
    let place = tempfile::tempdir().unwrap();
    let (folder, now) = (place.path(), SystemTime::now());
    drop(prepare(folder, &names(""), now).unwrap());
    for name in ["ca", "client"] {
        std::fs::remove_dir_all(folder.join(name)).unwrap();
    }
    let more = names("DNS:builds.example.com");
    assert_eq!(prepare(folder, &more, now).unwrap().warning, None);
    assert!(!folder.join("client").exists());
    let warning = prepare(folder, &more, now + 900 * DAY).unwrap().warning.unwrap();
    assert!(warning.contains("server/cert.pem"), "{warning}");
}

#[test]
fn services_that_start_at_once_have_one_authority() {
    let place = tempfile::tempdir().unwrap();
    let (folder, now) = (place.path(), SystemTime::now());
    let seen: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let start = |number: usize| {
            let more = names(&format!("DNS:service-{number}"));
            scope.spawn(move || {
                let ready = prepare(folder, &more, now).unwrap();
                let own = certificate(&CertificateFolder::new(folder), "server/cert.pem").unwrap();
                assert!(more.iter().all(|name| validity::is_for(&own, name)));
                std::fs::read(&ready.key).unwrap()
            })
        };
        let all: Vec<_> = (0..4).map(start).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
}
