//! Keys that BuildKit's own code computed.

use graph::{
    Action, ActionInput, ActionKind, CopyAction, FilesOp, ImageSource, Mount, MountKind, Operation,
    Owner, OwnerName, RunOp, Sharing, Step,
};
use oci::{Digest, Platform};

use super::*;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn step(operation: Operation, inputs: u32) -> Step {
    Step {
        operation,
        inputs: (0..inputs).map(graph::StepId).collect(),
        platform: Platform::new("linux", "amd64", ""),
        name: String::new(),
        lines: None,
        ignore_cache: false,
        shown_as: None,
    }
}

fn assert_key(operation: Operation, inputs: u32, expected: &str) -> StepKey {
    let key = step_key(&step(operation, inputs));
    assert_eq!(key.digests[0].hex(), expected);
    key
}

fn root() -> Mount {
    Mount {
        target: "/".into(),
        input: Some(0),
        selector: "/".into(),
        readonly: false,
        output: true,
        kind: MountKind::Bind,
    }
}

fn run(command: &str, mounts: Vec<Mount>) -> Operation {
    Operation::Run(Box::new(RunOp {
        args: ["/bin/sh", "-c", command].map(Into::into).into(),
        env: vec![("PATH".into(), PATH.into())],
        cwd: "/".into(),
        mounts,
        ..RunOp::default()
    }))
}

/// COPY as the Dockerfile frontend makes it.
fn copy(sources: &[&str], destination: &str, owner: Option<Owner>) -> Operation {
    let actions = sources.iter().enumerate().map(|(index, source)| Action {
        base: if index == 0 { ActionInput::Input(0) } else { ActionInput::Action(index - 1) },
        kind: ActionKind::Copy(Box::new(CopyAction {
            from: ActionInput::Input(1),
            source: (*source).into(),
            destination: destination.into(),
            owner: owner.clone(),
            follow_symlinks: true,
            copy_dir_contents: true,
            create_destination: true,
            wildcard: true,
            empty_wildcard: true,
            ..CopyAction::default()
        })),
    });
    Operation::Files(FilesOp { actions: actions.collect() })
}

#[test]
fn run_with_the_root_alone() {
    let key = assert_key(
        run("echo hi > /x && true", vec![root()]),
        1,
        "663dc309d6f3170ec0015942ba86cd325dc4db2683bc77d1d318f8c7edb0d5c5",
    );
    assert_eq!(
        key.inputs[0].selector.unwrap().hex(),
        "8a5edab282632443219e051e4ade2d1d5bbc671c781051bf1437897cbdfea0f1"
    );
    assert_eq!(key.inputs[0].content, None);
}

#[test]
fn run_with_mounts() {
    let cache = Mount {
        target: "/root/.cache".into(),
        input: None,
        selector: "/".into(),
        readonly: false,
        output: false,
        kind: MountKind::Cache { id: "//root/.cache".into(), sharing: Sharing::Shared },
    };
    let bind = Mount {
        target: "/mnt".into(),
        input: Some(1),
        selector: "a".into(),
        readonly: true,
        output: false,
        kind: MountKind::Bind,
    };
    let operation = run("cat /mnt/foo.txt", vec![root(), bind, cache]);
    let key = assert_key(
        operation,
        2,
        "0eb79a991b8d7e7ef7afb7ca03120e669d967f3fd5cfe8127780077f93d21308",
    );
    assert_eq!(key.inputs[1].content.as_ref().unwrap().paths[0].path, "/a");
}

/// The keys of a cache that BuildKit exported.
#[test]
fn run_with_a_tmpfs_that_has_no_size() {
    let tmpfs = Mount {
        target: "/t".into(),
        input: None,
        output: false,
        kind: MountKind::Tmpfs { size: 0 },
        ..root()
    };
    assert_key(
        run("echo x > /x", vec![root(), tmpfs]),
        1,
        "fdc65a6bb86fff4b8ef58b667970d7b23d9de02485684a7061873584fe835540",
    );
}

#[test]
fn copies_of_files() {
    let key = assert_key(
        copy(&["/x/foo.txt"], "/dst/", None),
        2,
        "963189ce782e42e52d1f96afadd933f41e558c37f22c355e66e0f9412b27644f",
    );
    assert_eq!(key.inputs[0], InputKey::default());
    let two = copy(&["/a/foo.txt", "/b/bar.txt"], "/dst/", None);
    let key =
        assert_key(two, 2, "57f3af00ccc65523a136a86ad65389f4e9a2d57d765aeef94c5f3a541f394c04");
    assert_eq!(
        key.inputs[1].selector.unwrap().hex(),
        "47331f4db29acc847a2977b528950b874b3fd1b4eb713b3f790c61400e7239c9"
    );
    let three = copy(&["/f0", "/f1", "/f2"], "/d/", None);
    let key =
        assert_key(three, 2, "b8ccb1911160577e5c240eabd4ed824f6b532b010456a2645e28203168d0e4fa");
    assert_eq!(
        key.inputs[1].selector.unwrap().hex(),
        "706a1dd56de2563fd7ae2e437115028dfa1815df2b3016a7d31cce0c314e487a"
    );
}

#[test]
fn copies_with_an_owner() {
    let name = OwnerName::Name { name: "grp".into(), input: ActionInput::Input(0) };
    let owner = Owner { user: Some(OwnerName::Id(1000)), group: Some(name) };
    assert_key(
        copy(&["/foo.txt"], "/dst/", Some(owner)),
        2,
        "cfde23d9679752d9fcf7bdafe9611219c48e2115a72a9f6c3d7b12e49e5b27ea",
    );
}

#[test]
fn copies_onto_nothing_and_merges() {
    let Operation::Files(mut files) = copy(&["/foo.txt"], "/dst/", None) else {
        unreachable!("it is a copy")
    };
    files.actions[0].base = ActionInput::Scratch;
    let ActionKind::Copy(copy) = &mut files.actions[0].kind else { unreachable!("it is a copy") };
    copy.from = ActionInput::Input(0);
    assert_key(
        Operation::Files(files),
        1,
        "fa7c2ba33e6b7a7fadddcc26050c8afb558f114a3b985cebac8d29b63957a69e",
    );
    assert_key(
        Operation::Merge,
        2,
        "5dbfbafede47210a7bd7363461bc885ec7310febe761daffdf666bfdae5970ff",
    );
}

#[test]
fn folders_and_inline_files() {
    let make_dir = ActionKind::MakeDir {
        path: "/app".into(),
        mode: 0o755,
        make_parents: true,
        owner: None,
        timestamp: None,
    };
    let files = FilesOp { actions: vec![Action { base: ActionInput::Input(0), kind: make_dir }] };
    assert_key(
        Operation::Files(files),
        1,
        "807b3e8722c68572736f54d83fd741a5b1d69ccbef218fae52b4149a56d232ce",
    );
    let make_file =
        ActionKind::MakeFile { path: "/x.txt".into(), mode: 0o644, data: b"hello <&> \n".to_vec() };
    let files = FilesOp { actions: vec![Action { base: ActionInput::Scratch, kind: make_file }] };
    assert_key(
        Operation::Files(files),
        0,
        "403f2a013574afe2a07b4e8d2e79593beba72aad946ff38b5eabf326c70a0929",
    );
}

#[test]
fn images_have_two_keys() {
    let digest =
        "sha256:baa3a44d9325ad8abcee4668494aa7936da7c6e83ce7b404615f88dbe0a2cd14".parse().unwrap();
    let layer: Digest =
        "sha256:c9174e0eafc9d909efdd3810c801b83915a4a8ba4ce8a35ceae1b8615c6a712a".parse().unwrap();
    let reference: oci::Reference = "busybox".parse().unwrap();
    let source = ImageSource {
        reference: reference.with_digest(digest),
        platform: Platform::new("linux", "amd64", ""),
        manifest: digest,
        diff_ids: vec![layer],
    };
    let keys: Vec<String> =
        step_key(&step(Operation::Image(source), 0)).digests.iter().map(Digest::hex).collect();
    assert_eq!(
        keys,
        [
            "eccf3db49f76f01ca3b5125e4aa37e02ea19442a67046d01ee8e41649596e2a1",
            "98c3300c7517cba7fc179380ccda6f08b189aafc17ccc507904a8199022be3b9"
        ]
    );
}

#[test]
fn content_has_its_own_record() {
    let content =
        "sha256:c02637f8db922040a182de4789235598d9a6b88ff2adb42f7cd17f83a6778e24".parse().unwrap();
    assert_eq!(
        content_record(content).hex(),
        "5f862a9ecd8fd403e2ada1bfd99ca72c43993cf983ea257f81bfec752e1d8654"
    );
}

/// The keys of caches that BuildKit exported.
#[test]
fn downloads_and_checkouts() {
    let plain = Digest::of("plain\n");
    let http = graph::HttpSource {
        url: "http://127.0.0.1:8765/x.txt".into(),
        filename: "x.txt".into(),
        checksum: Some(plain),
    };
    let time = Some("Thu, 04 Mar 2021 05:06:07 GMT");
    let pinned = "sha256:639d7b02c12a01fbf6eb2c631d541fa1ea77c16d9a0f8da1d371cc11fd6bcb07";
    assert_eq!(
        crate::http_record(&http, plain, time).to_string(),
        "sha256:f63869495330d251c8487d30ee10ce15b2dfb1b1a91d38dd8d8f7c89be6eaff4"
    );
    assert_eq!(crate::http_record(&http, plain, None).to_string(), pinned);

    let git = |keep_git_dir| graph::GitSource {
        remote: "git://127.0.0.1/r.git".into(),
        reference: "v1".into(),
        keep_git_dir,
        ..graph::GitSource::default()
    };
    let commit = "73156c930e73734b53fb6e109a07ee91680cb978";
    let tag = "35f5efc1f5489b868bc1a82baa3673092a4ed6f0";
    assert_eq!(
        crate::git_record(&git(false), commit, "refs/heads/main").to_string(),
        "sha256:b6a2a5d23df76378f2b84a4fec6d7e2444333d5bf73a6fbfbe233aa5caacc896"
    );
    assert_eq!(
        crate::git_record(&git(true), tag, "refs/tags/v1").to_string(),
        "sha256:8a25d00f4caca772ef57d31038e918db777f8a6d83f360a96df72c48b7e7120b"
    );
    let commit = "a3847bbddf70ea4b4937e25649848042ad0f0fdc";
    let source = graph::GitSource { mtime: graph::GitMtime::Commit, ..git(true) };
    assert_eq!(
        crate::git_record(&source, commit, "refs/heads/main").to_string(),
        "sha256:dcdb63ac49d4534a4505ca3be6c170467c0a7548a46802d46917cd2e4e2aa308"
    );
    let source = graph::GitSource { keep_git_dir: false, ..source };
    assert_eq!(
        crate::git_record(&source, commit, "refs/heads/main").to_string(),
        "sha256:c9008ee78f9a630a19a9ef6572e72371eacf197b392a8f1973a8b43e483b1eb5"
    );
    for (name, safe) in [("a/b", "b"), (" x ", "x"), ("..", "download"), ("a\nb", "download")] {
        assert_eq!(crate::safe_file_name(name), safe);
    }
}

/// Records that Debian's Docker 20.10 (BuildKit 0.8) wrote into an image.
#[test]
fn records_of_docker_20_10() {
    let old = |operation| step_key(&step(operation, 2)).old.map(|digest| digest.hex());
    let Operation::Run(mut one) = run("/bin/busybox echo one > /one", vec![root()]) else {
        unreachable!("it is a command")
    };
    one.env.push(("A".into(), "1".into()));
    one.cwd = "/srv".into();
    one.network = graph::Network::Host;
    assert_eq!(
        old(Operation::Run(one)).unwrap(),
        "a9822c1c2629aab89e070e4bdd407d675f80f4369362b3c5b706fa8206db1cce"
    );
    let owner = Owner { user: Some(OwnerName::Id(1000)), group: Some(OwnerName::Id(1000)) };
    assert_eq!(
        old(copy(&["/data.txt"], "/owned.txt", Some(owner))).unwrap(),
        "757f5360a9a5c785583b7fe469e9d8e985dfe99baf1354638e9139669335065b"
    );
    // The same as today, and one that forgot what was mounted.
    assert_eq!(old(copy(&["/data.txt"], "/srv/", None)), None);
    let cache = Mount { target: "/cache".into(), input: Some(1), ..root() };
    assert_eq!(old(run("true", vec![root(), cache])), None);
}
