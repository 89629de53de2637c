//! Default mounts and requested mounts.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use runtime::{Error, FileContent, Mount, MountKind, RootSource};

use super::Outcome;
use crate::fixture::{Fixture, tree};

pub async fn default_mounts_and_devices(fixture: &Fixture) -> Outcome {
    let script = "for p in null zero full random urandom tty ptmx fd stdin core; do test -e /dev/$p && echo $p; done
        for m in /proc /dev /dev/pts /dev/shm /dev/mqueue; do awk -v m=$m '$2==m{print m, $3}' /proc/mounts; done
        test -d /sys/class && ! touch /sys/x 2>/dev/null && echo sys
        echo x >/dev/null; head -c 2 /dev/zero | wc -c; head -c 2 /dev/urandom | wc -c
        echo x >/dev/shm/x && mkdir /dev/made && echo made; df -k /dev/shm | tail -1 | awk '{print $2}'; echo $$";
    let said = fixture.says(&fixture.shell(script)).await;
    let said = said.replacen("core\n", "", 1);
    assert_eq!(
        said,
        "null\nzero\nfull\nrandom\nurandom\ntty\nptmx\nfd\nstdin\n/proc proc\n/dev tmpfs\n/dev/pts devpts\n\
         /dev/shm tmpfs\n/dev/mqueue mqueue\nsys\n2\n2\nmade\n65536\n1\n"
    );
    Ok(())
}

pub async fn masked_and_read_only_kernel_files(fixture: &Fixture) -> Outcome {
    let script = "cat /proc/kcore /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l
        for f in /proc/sys/kernel/hostname /proc/sysrq-trigger; do (echo x >$f) 2>/dev/null && echo wrote $f; done; true";
    assert_eq!(fixture.says(&fixture.shell(script)).await, "0\n0\n");
    Ok(())
}

pub async fn bind_mounts(fixture: &Fixture) -> Outcome {
    let source = fixture.folder();
    fs::create_dir(source.join("d")).unwrap();
    fs::write(source.join("d/one"), "1\n").unwrap();
    symlink("/d/one", source.join("l")).unwrap();
    let bind = |target: &str, subpath: &str, readonly| Mount {
        target: target.into(),
        kind: MountKind::Bind { source: source.clone(), subpath: subpath.into(), readonly },
    };
    let script = "cat /m/d/one; touch /m/x 2>/dev/null || echo ro; cat /l; echo 2 >/w/two; cat /tmp/in/d/one";
    let mut container = fixture.shell(script);
    container.mounts = vec![
        bind("/m", "", true),
        bind("/l", "l", true),
        bind("/w", "/d", false),
        bind("/tmp/../tmp/in", "/", true),
    ];
    assert_eq!(fixture.says(&container).await, "1\nro\n1\n1\n");
    assert_eq!(fs::read_to_string(source.join("d/two")).unwrap(), "2\n");

    // A mount inside a mount.
    let mut container = fixture.shell("ls /m; ls /m/d");
    let tmpfs =
        Mount { target: "/m".into(), kind: MountKind::Tmpfs { size: None, readonly: false } };
    container.mounts = vec![tmpfs, bind("/m/d", "d", true)];
    assert_eq!(fixture.says(&container).await, "d\none\ntwo\n");
    Ok(())
}

pub async fn overlays_as_mounts(fixture: &Fixture) -> Outcome {
    let (low, high) = (fixture.folder(), fixture.folder());
    fs::create_dir(low.join("o")).unwrap();
    fs::write(low.join("o/a"), "low a\n").unwrap();
    fs::write(low.join("o/b"), "low b\n").unwrap();
    fs::create_dir(high.join("o")).unwrap();
    fs::write(high.join("o/b"), "high b\n").unwrap();
    let layer = fixture.layer();
    let mount = |target: &str, lowers, layer, readonly| Mount {
        target: target.into(),
        kind: MountKind::Overlay {
            overlay: fixture.overlay(lowers, layer),
            subpath: "/o".into(),
            readonly,
        },
    };
    let script = "cat /both/a /both/b; touch /both/x 2>/dev/null || echo ro
        ls /one; touch /one/x 2>/dev/null || echo ro; rm /rw/a; echo n >/rw/n; ls /rw";
    let mut container = fixture.shell(script);
    container.mounts = vec![
        mount("/both", vec![high.clone(), low.clone()], None, true),
        mount("/one", vec![low.clone()], None, true),
        mount("/rw", vec![high.clone(), low.clone()], Some(&layer), false),
    ];
    assert_eq!(fixture.says(&container).await, "low a\nhigh b\nro\na\nb\nro\nb\nn\n");
    assert!(low.join("o/a").exists() && !low.join("o/n").exists());
    assert_eq!(fs::read_to_string(layer.upper.join("o/n")).unwrap(), "n\n");
    Ok(())
}

pub async fn missing_sources(fixture: &Fixture) -> Outcome {
    let source = fixture.folder();
    let run = async |source, subpath: &str| {
        let mut container = fixture.shell("true");
        let kind = MountKind::Bind { source, subpath: subpath.into(), readonly: true };
        container.mounts.push(Mount { target: "/m".into(), kind });
        fixture.run(&container).await.unwrap_err()
    };
    let error = run(source.clone(), "nope").await;
    assert!(matches!(&error, Error::MountSourceMissing { path } if path == "/nope"), "{error:?}");
    assert!(matches!(run(source.join("nope"), "").await, Error::MountSourceMissing { .. }));
    let mut container = fixture.shell("true");
    container.root =
        RootSource::Overlay(fixture.overlay(vec![source.join("layer")], Some(&fixture.layer())));
    assert!(matches!(fixture.run(&container).await.unwrap_err(), Error::MountSourceMissing { .. }));
    Ok(())
}

pub async fn tmpfs(fixture: &Fixture) -> Outcome {
    let script = "awk '$2==\"/t\"{print $3}' /proc/mounts; ls /t | wc -l; df -k /t | tail -1 | awk '{print $2}'
        stat -c %a /t; dd if=/dev/zero of=/t/x bs=1M count=17 2>/dev/null || echo full; touch /ro/x 2>/dev/null || echo ro";
    let layer = fixture.layer();
    fs::create_dir(layer.upper.join("t")).unwrap();
    fs::write(layer.upper.join("t/under"), "").unwrap();
    let mut container = fixture.on(&layer, &["/bin/sh", "-c", script]);
    container.mounts = vec![
        Mount {
            target: "/t".into(),
            kind: MountKind::Tmpfs { size: Some(16 << 20), readonly: false },
        },
        Mount { target: "/ro".into(), kind: MountKind::Tmpfs { size: None, readonly: true } },
    ];
    assert_eq!(fixture.says(&container).await, "tmpfs\n0\n16384\n1777\nfull\nro\n");
    assert_eq!(tree(&layer.upper.join("t")), ["under"]);
    Ok(())
}

pub fn secret(content: &[u8]) -> MountKind {
    MountKind::File { content: FileContent::new(content.to_vec()), mode: 0o400, uid: 0, gid: 0 }
}

pub async fn secrets(fixture: &Fixture) -> Outcome {
    let layer = fixture.layer();
    let script = "stat -c '%a %u %g %s' /run/secrets/tok; cat /run/secrets/tok; echo; echo x >/run/secrets/tok || echo ro";
    let mut container = fixture.on(&layer, &["/bin/sh", "-c", script]);
    container.mounts.push(Mount { target: "/run/secrets/tok".into(), kind: secret(b"s3cr3t") });
    assert_eq!(fixture.says(&container).await, "400 0 0 6\ns3cr3t\nro\n");
    assert!(!tree(&layer.upper).iter().any(|path| path.starts_with("run")));

    let large = vec![b'x'; 3 << 20];
    let mut container =
        fixture.shell("wc -c </s; cat /proc/1/cmdline /proc/1/environ | grep -c 'x\\{64\\}'");
    container.mounts.push(Mount { target: "/s".into(), kind: secret(&large) });
    assert_eq!(fixture.run(&container).await.unwrap().stdout, format!("{}\n0\n", large.len()));

    if !fixture.single {
        let mut container = fixture.shell("stat -c '%a %u %g' /s; cat /s");
        let content = FileContent::new(b"mine".to_vec());
        container.mounts.push(Mount {
            target: "/s".into(),
            kind: MountKind::File { content, mode: 0o440, uid: 500, gid: 700 },
        });
        container.user = Some("ann".into());
        assert_eq!(fixture.says(&container).await, "440 500 700\nmine");
    }
    Ok(())
}

pub async fn replaced_defaults(fixture: &Fixture) -> Outcome {
    let mut container = fixture.shell("df -k /dev/shm | tail -1 | awk '{print $2}'");
    container.mounts = vec![Mount {
        target: "/dev/shm/".into(),
        kind: MountKind::Tmpfs { size: Some(1 << 20), readonly: false },
    }];
    assert_eq!(fixture.says(&container).await, "1024\n");
    Ok(())
}

pub async fn devices_of_the_host(fixture: &Fixture) -> Outcome {
    if fixture.userxattr {
        return Err("no device files in a user namespace".into());
    }
    // Making device files is allowed, as it is under runc; using the host's devices is not.
    let script = "mknod -m 640 /nul c 1 3 && echo made; mknod /m b 7 0; mknod /k c 1 11; mknod /dev/mm c 1 1
        mknod /tmp/mem c 1 1; for d in /m /k /dev/mm /tmp/mem; do head -c 1 $d >/dev/null 2>&1 && echo read $d; done
        echo end";
    let layer = fixture.layer();
    assert_eq!(fixture.says(&fixture.on(&layer, &["/bin/sh", "-c", script])).await, "made\nend\n");
    assert_eq!(layer.upper.join("nul").metadata().unwrap().rdev(), 0x103);

    let said = fixture.run(&fixture.shell("mknod /n c 1 3 && echo x >/n && rm /dev/random && ln -s urandom /dev/random && echo replaced")).await;
    if said.unwrap().stdout != "replaced\n" {
        return Err(
            "only partly: no writable cgroup v2 here, so device files do not work in containers"
                .into(),
        );
    }
    Ok(())
}
