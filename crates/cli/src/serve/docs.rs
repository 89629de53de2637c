//! `docs/engine.md` is generated from the tables: `KILN_WRITE_DOCS=1 cargo test docs` writes it, and without
//! the variable the test compares.

use ::engine::{API, BodyField, Handling, MIN_API, REQUEST_BODIES, endpoints};

const HEAD: &str = "\
# kiln serve: Docker's and BuildKit's APIs

`kiln serve` answers docker's clients on a socket: `docker build`, `docker push`, `docker compose build`, docker-py and others
work with it as with dockerd, unprivileged. Images and build cache are those of kiln's root, so `kiln images` shows what
`docker build` made.

```
kiln serve --addr unix:///run/kiln/kiln.sock --addr tcp://127.0.0.1:2375 &
DOCKER_HOST=unix:///run/kiln/kiln.sock docker build -t app .
```

- Each request has its own credentials (`docker login` keeps them with the client) and sees no files, variables or logins of
  the machine that serves.
- A client that vanishes ends its build. SIGTERM lets running requests end for `--shutdown-timeout`, then ends them.
- TCP without TLS lets anybody build who reaches it. `--tlsverify --tlscacert ca.pem --tlscert cert.pem --tlskey key.pem`
  lets in clients with certificates only.
- `kiln dockerd`, `kiln buildkitd` and links of these names take the flags of the other daemons:
  [personalities.md](personalities.md#dockerd-and-buildkitd).
- The same sockets speak BuildKit's API, for `docker buildx`, `docker compose build` and buildctl:
  [buildkit-api.md](buildkit-api.md).
- A container has the machine's network or none, the isolation of a RUN, and the limits of the job that kiln runs in: what
  that excludes is refused by name, below. A port is published under its own number.
- A container's files are kept until it is removed, and so is its output (64 MiB, then the older half goes). It ends with the
  service: SIGTERM stops containers, and a service that was killed leaves none running. A service with a container that runs is
  not idle. At most 1000 containers are kept.
- `docker run -v` names a path of the service's file system, and is refused unless a folder was granted: `kiln serve
  --allow-bind /builds` lets clients bind what is in `/builds`, which a GitLab job and its services share. Links are resolved
  inside of that folder. kiln's root may not be in it. Where nothing can be mounted (`chroot`), a folder is moved into the
  container for as long as it runs: it has to be on the file system of kiln's root, and one container has it at a time.
- `docker buildx create` finds BuildKit in a container, which is the service itself:
  [buildkit-api.md](buildkit-api.md#builders-in-containers).
- With systemd, `LISTEN_FDS` passes sockets, and `--idle-timeout` ends the service when nobody needs it.

Each endpoint of the API, each of its parameters and each field of a body is honoured, or refused with a sentence. This page
is made of the tables that requests are read by; a test compares them.

";

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn outcome(handling: Handling) -> String {
    match handling {
        Handling::Honoured(text) => text.to_owned(),
        Handling::NoEffect(text) => format!("accepted: {text}"),
        Handling::Noted(text) => format!("accepted with a note: {text}"),
        Handling::Refused(text) => format!("refused: {text}"),
    }
}

fn page() -> String {
    let mut out = HEAD.to_owned();
    out.push_str(&format!(
        "## The Engine API\n\nVersions {MIN_API} to {API}, with and without `/vX.Y` before the path.\n\n\
         | endpoint | what becomes of it |\n|---|---|\n"
    ));
    for row in endpoints() {
        out.push_str(&format!("| `{} {}` | {} |\n", row.method, row.path, cell(&row.outcome())));
    }
    out.push_str(
        "\n### Parameters\n\n| endpoint | parameter | what becomes of it |\n|---|---|---|\n",
    );
    for row in endpoints() {
        for parameter in row.parameters {
            let (name, outcome) = (parameter.name, cell(&outcome(parameter.handling)));
            out.push_str(&format!("| `{} {}` | `{name}` | {outcome} |\n", row.method, row.path));
        }
    }
    for body in REQUEST_BODIES {
        out.push_str(&format!(
            "\n### Fields of the body of `{} {}`\n\nOthers are refused by name, unless they are empty.\n\n\
             | field | what becomes of it |\n|---|---|\n",
            body.method, body.path
        ));
        for field in body.fields {
            out.push_str(&format!("| `{}` | {} |\n", field.path, cell(&field_outcome(field))));
        }
    }
    out
}

fn field_outcome(field: &BodyField) -> String {
    let mut text = outcome(field.handling);
    if !field.harmless.is_empty() {
        let values: Vec<String> = field.harmless.iter().map(|value| format!("`{value}`")).collect();
        text.push_str(&format!("; {} is the case anyway", values.join(" or ")));
    }
    text
}

#[test]
fn the_page_has_every_endpoint() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/engine.md");
    if std::env::var_os("KILN_WRITE_DOCS").is_some() {
        std::fs::write(file, page()).unwrap();
    }
    let written = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        written == page(),
        "docs/engine.md is not what the tables say: write it again with \
         `KILN_WRITE_DOCS=1 cargo test -p kiln docs`"
    );
}
