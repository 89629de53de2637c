//! Contexts that come to a service neither in the request of a classic build nor from a session.

use std::io::Write as _;
use std::process::Stdio;

use crate::serve::{Service, archive, classic_client};

#[test]
fn a_context_on_standard_input_is_built_in_buildkits_way() {
    let test = "a_context_on_standard_input_is_built_in_buildkits_way";
    let Some(client) = classic_client(test) else { return };
    let service = Service::start(&[]);
    let files = [("Dockerfile", "FROM scratch\nCOPY hello /\nLABEL a=b\n"), ("hello", "hi")];
    let dockerfile = b"FROM scratch\nLABEL c=d\n".to_vec();
    for (input, label) in [(archive(&files), "a"), (dockerfile, "c")] {
        let mut command = service.client(&client, &["build", "--tag", "app:1", "-"]);
        command.env("DOCKER_BUILDKIT", "1").stdin(Stdio::piped());
        let mut running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        running.stdin.take().unwrap().write_all(&input).unwrap();
        let output = running.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{}", service.log());
        let labels = &service.json("GET /images/app:1/json")["Config"]["Labels"];
        assert!(labels[label].is_string(), "{labels}");
    }
}

#[test]
fn an_archive_in_the_body_is_built_in_buildkits_way_too() {
    let service = Service::start(&[]);
    let files = archive(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let (status, said) = service.ask("POST /build?version=2&t=app:1", &files);
    assert!(status == 200 && said.contains("moby.buildkit.trace"), "{said}");
    assert!(said.contains("moby.image.id"), "{said}");
    let (status, refused) = service.ask("POST /build?version=2&remote=%2Fetc", b"");
    assert!(status == 400 || refused.contains("errorDetail"), "{refused}");
    let (status, _) = service.ask("POST /build?remote=upload-request&buildid=x", b"");
    assert_eq!(status, 400);
}
