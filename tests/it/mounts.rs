//! Mounts of RUN that no recorded image covers.

use fixtures::Access;

use crate::{context_of, kiln, registry, text};

/// Relative to the working directory, as in BuildKit, although the key has the target as written.
#[test]
fn relative_targets_of_secrets() {
    let Some(registry) = registry("relative_targets_of_secrets", Access::Open) else { return };
    let kiln = kiln();
    let dockerfile = format!(
        "FROM {}/library/busybox AS run\nWORKDIR /w\n\
         RUN --mount=type=secret,id=key,target=in/key,mode=0444 cp /w/in/key /tmp/seen\n\
         FROM scratch\nCOPY --from=run /tmp/seen /w /\n",
        registry.host()
    );
    let context = context_of(&[("Dockerfile", &dockerfile), ("key", "hunter2")]);
    let (out, key) = (context.path().join("out"), text(&context.path().join("key")));
    let secret = format!("id=key,src={key}");
    kiln.run(["build", "-q", "--secret", &secret, "-o", &text(&out), &text(context.path())])
        .expect_ok();
    assert_eq!(std::fs::read_to_string(out.join("seen")).unwrap(), "hunter2");
    assert!(!out.join("in").exists(), "the mount point left a trace");
}
