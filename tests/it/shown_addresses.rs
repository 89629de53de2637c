//! Users, passwords and queries of addresses are never shown, and stored only in an image's
//! history, as with BuildKit.

use std::path::Path;

use base64::Engine as _;
use fixtures::WebServer;
use fixtures::web_server::Page;

use crate::repository::Repository;
use crate::{context_of, kiln, text};

/// The strings that must not appear.
const SECRETS: [&str; 4] = ["S3CRET-user", "S3CRET-password", "S3CRET-signature", "S3CRET-token"];

/// The secrets in plain text, and in base64 at each offset in a group of three bytes.
fn traces() -> Vec<Vec<u8>> {
    let mut traces = Vec::new();
    for secret in SECRETS {
        traces.push(secret.as_bytes().to_vec());
        for before in 0..3 {
            let padded = [&b"..."[..before], secret.as_bytes()].concat();
            let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(&padded);
            // Without the characters that depend on adjacent bytes.
            traces.push(encoded.as_bytes()[4..encoded.len() - 4].to_vec());
        }
    }
    traces
}

#[track_caller]
fn assert_clean(what: &str, bytes: &[u8]) {
    for trace in traces() {
        let found = bytes.windows(trace.len()).position(|window| window == trace);
        if let Some(at) = found {
            let around = &bytes[at.saturating_sub(200)..(at + 100).min(bytes.len())];
            panic!("{what} has {trace:?}:\n{}", String::from_utf8_lossy(around));
        }
    }
}

/// Checks all files of a folder, decompressed if they are gzip.
#[track_caller]
fn assert_clean_folder(what: &str, folder: &Path) {
    let mut open = vec![folder.to_owned()];
    let mut files = 0;
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
                continue;
            }
            let Ok(bytes) = std::fs::read(&path) else { continue };
            files += 1;
            let name = format!("{what}: {}", path.display());
            assert_clean(&name, &bytes);
            if bytes.starts_with(&[0x1f, 0x8b]) {
                let mut whole = Vec::new();
                let mut reader = flate2::read::MultiGzDecoder::new(bytes.as_slice());
                std::io::Read::read_to_end(&mut reader, &mut whole).unwrap();
                assert_clean(&name, &whole);
            }
        }
    }
    assert!(files > 0, "{what} is empty");
}

fn user(server: &WebServer) -> String {
    format!("http://S3CRET-user:S3CRET-password@{}", server.host())
}

#[test]
fn secrets_of_addresses_are_shown_nowhere() {
    let Some(repository) = Repository::new("shown_addresses") else { return };
    let (kiln, server) = (kiln(), WebServer::start());
    repository.serve(&server);
    let page = Page { body: b"content".to_vec(), ..Page::default() };
    server.put("/file?sig=S3CRET-signature&S3CRET-token", page);
    let user = user(&server);
    let dockerfile = format!(
        "FROM scratch\nARG BASE\n\
         ADD {user}/file?sig=S3CRET-signature&S3CRET-token /one\n\
         ADD [\"$BASE\", \"/two\"]\n\
         ADD {user}/r.git#main:dir /three\n\
         ADD --keep-git-dir {user}/r.git /four\n\
         COPY --from=more /a.txt /five\n"
    );
    let context = context_of(&[("Dockerfile", &dockerfile)]);
    let place = tempfile::tempdir().unwrap();
    let out = |name: &str| text(&place.path().join(name));
    let build = |progress: &str, more: &[&str]| {
        let mut args = vec![
            "build".to_owned(),
            format!("--progress={progress}"),
            format!("--build-arg=BASE={user}/file?sig=S3CRET-signature&S3CRET-token"),
            format!("--build-context=more={user}/r.git#main:dir"),
            "--explain".into(),
            "--attest=type=provenance,mode=max".into(),
            format!("--metadata-file={}", out("metadata")),
            format!("--output=type=local,dest={}", out("files")),
            format!("--cache-to=type=local,dest={},mode=max", out("cache")),
        ];
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        args.push(text(context.path()));
        let mut command = kiln.command(args);
        command.env("KILN_LOG", "trace").env("KILN_LOG_FILE", out("log"));
        fixtures::kiln::finish(command, b"")
    };
    for progress in ["plain", "rawjson"] {
        let run = build(progress, &["--no-cache"]).expect_ok();
        assert!(run.stderr.contains("/file?sig=xxxxx"), "{}", run.stderr);
        assert_clean(progress, run.stderr.as_bytes());
        assert_clean(progress, run.stdout.as_bytes());
    }
    let log = std::fs::read_to_string(out("log")).unwrap();
    assert!(log.contains("/file?sig=xxxxx") && log.contains("step{"), "{log}");
    assert_clean("diagnostics", log.as_bytes());
    assert_clean("metadata", &std::fs::read(out("metadata")).unwrap());
    let files = Path::new(&out("files")).to_owned();
    assert_eq!(std::fs::read_to_string(files.join("two")).unwrap(), "content");
    assert_eq!(std::fs::read_to_string(files.join("five")).unwrap(), "two\n");
    let provenance = std::fs::read_to_string(files.join("provenance.json")).unwrap();
    assert!(provenance.contains("/file?sig=xxxxx"), "{provenance}");
    assert_clean_folder("output", &files);
    assert_clean_folder("cache", Path::new(&out("cache")));
    assert_clean_folder("root", &kiln.root());

    // An error shows the line that caused it.
    for line in [
        "ADD @/none?sig=S3CRET-signature /f",
        "ADD --checksum=x @/file?sig=S3CRET-signature /f",
        "COPY @/file?sig=S3CRET-signature /f",
        "RUN curl @/file?sig=S3CRET-signature",
        "ADD http://S3CRET-user:S3CRET-password/x@h/?sig=S3CRET-signature /f",
    ] {
        let dockerfile = format!("FROM scratch\n{}\n", line.replace('@', &user));
        let context = context_of(&[("Dockerfile", &dockerfile)]);
        for progress in ["plain", "rawjson"] {
            let progress = format!("--progress={progress}");
            let run = kiln.run(["build", &progress, "--explain", &text(context.path())]);
            assert!(run.refused(), "{line}: {}", run.stderr);
            assert_clean(line, run.stderr.as_bytes());
        }
    }
    let none = format!("{user}/none.git");
    let run = kiln.run(["build", "--progress=plain", &none]);
    assert!(run.refused(), "{}", run.stderr);
    assert_clean("a context", run.stderr.as_bytes());
    assert_clean_folder("root", &kiln.root());
}
