//! The root: layers, the changes of a run, and hostile images.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, SystemTime};

use runtime::{Error, Mount, MountKind, RootSource};

use super::Outcome;
use super::mounts::secret;
use crate::fixture::{Fixture, tree};

pub async fn changes_and_no_stubs(fixture: &Fixture) -> Outcome {
    let layer = fixture.layer();
    let mut container = fixture.on(&layer, &["/bin/sh", "-c", "echo x >/f"]);
    container.mounts = vec![
        Mount { target: "/p/q/r".into(), kind: MountKind::Tmpfs { size: None, readonly: false } },
        Mount { target: "/run/secrets/tok".into(), kind: secret(b"s") },
    ];
    let ran = fixture.run(&container).await.unwrap();
    // The usual mount points are in a layer below all others.
    assert_eq!(ran.finished.stubs, ["p", "p/q", "p/q/r", "run", "run/secrets", "run/secrets/tok"]);
    assert_eq!(tree(&layer.upper), ["f"]);

    // A mount point that the image has removed exists again during the run.
    let layer = fixture.layer();
    fixture.says(&fixture.on(&layer, &["/bin/sh", "-c", "rm /etc/passwd"])).await;
    fs::rename(layer.upper.join("etc/passwd"), layer.upper.join("etc/hosts")).unwrap();
    let above = fixture.layer();
    let mut container = fixture.on(&above, &["/bin/sh", "-c", "grep -c localhost /etc/hosts"]);
    container.root =
        RootSource::Overlay(fixture.overlay(vec![layer.upper, fixture.base.clone()], Some(&above)));
    let ran = fixture.run(&container).await.unwrap();
    assert_eq!((ran.stdout.as_str(), ran.finished.stubs), ("2\n", vec!["etc/hosts".to_owned()]));
    // The copied-up folder has no changes, and the mount point is a whiteout again.
    assert_eq!(tree(&above.upper), ["etc"]);
    Ok(())
}

pub async fn stubs_with_content_stay(fixture: &Fixture) -> Outcome {
    let layer = fixture.layer();
    let mut container =
        fixture.on(&layer, &["/bin/sh", "-c", "mkdir /a/b/kept && echo x >/a/file"]);
    container.mounts = vec![Mount {
        target: "/a/b/c".into(),
        kind: MountKind::Tmpfs { size: None, readonly: false },
    }];
    fixture.says(&container).await;
    assert_eq!(tree(&layer.upper), ["a", "a/b", "a/b/kept", "a/file"]);
    Ok(())
}

pub async fn parents_keep_their_times(fixture: &Fixture) -> Outcome {
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let lower = fixture.folder();
    fs::create_dir(lower.join("etc")).unwrap();
    fs::File::open(lower.join("etc")).unwrap().set_modified(old).unwrap();
    let layer = fixture.layer();
    let mut container = fixture.on(&layer, &["/bin/sh", "-c", "stat -c %Y /etc"]);
    container.mounts.push(Mount { target: "/etc/new".into(), kind: secret(b"") });
    container.root =
        RootSource::Overlay(fixture.overlay(vec![lower, fixture.base.clone()], Some(&layer)));
    assert_eq!(fixture.says(&container).await, "1000000\n");
    assert_eq!(layer.upper.join("etc").metadata().unwrap().mtime(), 1_000_000);
    Ok(())
}

pub async fn hostile_links(fixture: &Fixture) -> Outcome {
    let outside = fixture.folder();
    fs::write(outside.join("target"), "").unwrap();
    let evil = fixture.folder();
    fs::create_dir(evil.join("etc")).unwrap();
    let out = outside.display().to_string();
    symlink(format!("{out}/made-by-hosts"), evil.join("etc/hosts")).unwrap();
    symlink(format!("../../../../../../../..{out}/made-by-resolver"), evil.join("etc/resolv.conf"))
        .unwrap();
    symlink("/proc/1/root/up", evil.join("etc/through")).unwrap();
    symlink(&out, evil.join("out")).unwrap();
    symlink("loop", evil.join("loop")).unwrap();
    let layer = fixture.layer();
    let mut container =
        fixture.on(&layer, &["/bin/sh", "-c", "cat /etc/hosts /out/new | wc -l; pwd"]);
    container.root =
        RootSource::Overlay(fixture.overlay(vec![evil, fixture.base.clone()], Some(&layer)));
    container.cwd = "/out/cwd".into();
    container.mounts.push(Mount { target: "/out/new".into(), kind: secret(b"inside\n") });
    assert_eq!(fixture.says(&container).await, format!("3\n{out}/cwd\n"));
    assert_eq!(tree(&outside), ["target"]);
    // Of the folders that the links lead to inside the root, only the working directory remains.
    assert!(layer.upper.join(out.trim_start_matches('/')).join("cwd").is_dir());
    assert!(
        !tree(&layer.upper).iter().any(|path| path.contains("made-by") || path.ends_with("/new"))
    );

    let mut looping = container.clone();
    looping.mounts = vec![Mount { target: "/loop/x".into(), kind: secret(b"") }];
    assert!(matches!(fixture.run(&looping).await, Err(Error::Setup { .. })));
    looping.mounts = vec![Mount { target: "/etc/through/x".into(), kind: secret(b"") }];
    // A link of the kernel is followed as text, relative to the container's own root.
    let ran = fixture.run(&looping).await.unwrap();
    assert!(ran.finished.stubs.contains(&"up/x".to_owned()), "{ran:?}");
    Ok(())
}

pub async fn hostile_kernel_mount_points(fixture: &Fixture) -> Outcome {
    for name in ["proc", "sys", "dev"] {
        let evil = fixture.folder();
        symlink("tmp", evil.join(name)).unwrap();
        let layer = fixture.layer();
        let mut container = fixture.on(&layer, &["true"]);
        container.root =
            RootSource::Overlay(fixture.overlay(vec![evil, fixture.base.clone()], Some(&layer)));
        let error = fixture.run(&container).await.unwrap_err();
        assert!(
            matches!(&error, Error::Refused(reason) if reason.contains("symbolic link")),
            "{error:?}"
        );
    }
    // A table that is not a regular file must not block.
    let evil = fixture.layer();
    fixture
        .says(&fixture.on(&evil, &["/bin/sh", "-c", "rm /etc/passwd && mkfifo /etc/passwd"]))
        .await;
    let mut container = fixture.on(&evil, &["true"]);
    container.user = Some("0".into());
    fixture.says(&container).await;
    Ok(())
}

pub async fn many_layers(fixture: &Fixture) -> Outcome {
    for count in [130, 499] {
        // Long names that contain the separators of mount options.
        let deep = fixture.folder().join(format!("{}:a,b\\c", "n".repeat(150)));
        let mut lowers: Vec<_> =
            (0..count).map(|index| deep.join(format!("layer:{index}"))).collect();
        for (index, lower) in lowers.iter().enumerate() {
            fs::create_dir_all(lower.join("l")).unwrap();
            fs::write(lower.join(format!("l/{index}")), "").unwrap();
            fs::write(lower.join("l/top"), index.to_string()).unwrap();
        }
        lowers.push(fixture.base.clone());
        let layer = fixture.layer();
        let mut container = fixture.on(&layer, &["/bin/sh", "-c", "ls /l | wc -l; cat /l/top"]);
        container.root = RootSource::Overlay(fixture.overlay(lowers.clone(), Some(&layer)));
        assert_eq!(fixture.says(&container).await, format!("{}\n0", count + 1));
        if count == 499 {
            lowers.push(fixture.base.clone());
            container.root = RootSource::Overlay(fixture.overlay(lowers, Some(&layer)));
            assert!(matches!(fixture.run(&container).await, Err(Error::Refused(_))));
        }
    }
    Ok(())
}

pub async fn plain_directory(fixture: &Fixture) -> Outcome {
    let root = fixture.folder();
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy(fixture.base.join("bin/busybox"), root.join("bin/sh")).unwrap();
    let mut container = fixture.shell("echo x >/f");
    container.root = RootSource::Directory(root.clone());
    let ran = fixture.run(&container).await.unwrap();
    assert!(ran.finished.exit.is_success());
    assert_eq!(tree(&root), ["bin", "bin/sh", "f"]);
    // No layers at all.
    let layer = fixture.layer();
    container.root = RootSource::Overlay(fixture.overlay(Vec::new(), Some(&layer)));
    assert!(matches!(fixture.run(&container).await, Err(Error::ProgramNotFound { .. })));
    assert!(tree(&layer.upper).is_empty());
    Ok(())
}

pub async fn used_again(fixture: &Fixture) -> Outcome {
    let layer = fixture.layer();
    for index in 0..3 {
        fixture
            .says(&fixture.on(&layer, &["/bin/sh", "-c", &format!("echo {index} >>/log")]))
            .await;
    }
    assert_eq!(fs::read_to_string(layer.upper.join("log")).unwrap(), "0\n1\n2\n");
    Ok(())
}

pub async fn opaque_and_whiteouts(fixture: &Fixture) -> Outcome {
    let layer = fixture.layer();
    let script = "rm /etc/group; rm -r /root && mkdir /root && echo new >/root/f; mv /tmp /moved; ls -d /root /moved";
    assert_eq!(
        fixture.says(&fixture.on(&layer, &["/bin/sh", "-c", script])).await,
        "/moved\n/root\n"
    );
    let whiteout = layer.upper.join("etc/group").symlink_metadata().unwrap();
    assert_eq!((whiteout.rdev(), whiteout.mode() & 0o170_000), (0, 0o020_000));
    let top = fixture.on(&layer, &["/bin/sh", "-c", "ls /root /etc"]);
    assert_eq!(fixture.says(&top).await, "/etc:\nhosts\npasswd\nresolv.conf\n\n/root:\nf\n");
    Ok(())
}
