use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn the_folders_around_what_stays_are_shared() {
    let fixed = ["proc", "proc/sys", "etc/hosts", "var/lib/kiln", "etc/a b"];
    let fixed: BTreeSet<PathBuf> = fixed.iter().map(PathBuf::from).collect();
    let found: Vec<_> = shared(&fixed);
    assert_eq!(found, ["", "etc", "var", "var/lib"].map(PathBuf::from));
    assert_eq!(unescape("/etc/a\\040b"), Path::new("/etc/a b"));
    assert_eq!(unescape("/c\\d"), Path::new("/c\\d"));
}

/// A container with files of its own, an image's root, and a folder that stays and has kiln's state.
struct World {
    folder: tempfile::TempDir,
    own: Vec<String>,
    image: Vec<String>,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("top/bin/sh", "own"),
            ("top/bin/deep/er", "own"),
            ("top/etc/hosts", "mounted"),
            ("top/etc/passwd", "own"),
            ("top/var/lib/other", "own"),
            ("top/kept/file", "kept"),
            ("root/bin/sh", "image"),
            ("root/bin/deep/image", "image"),
            ("root/etc/hosts", "hidden"),
            ("root/etc/passwd", "image"),
            ("root/usr/x", "image"),
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut world = World { own: Vec::new(), image: Vec::new(), folder };
        fs::create_dir_all(world.state()).unwrap();
        (world.own, world.image) = (files(&world.top()), files(&world.root()));
        world
    }

    fn top(&self) -> PathBuf {
        self.folder.path().join("top")
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn state(&self) -> PathBuf {
        self.top().join("var/lib/kiln")
    }

    fn begin(&self) -> Exchange {
        let fixed = ["etc/hosts", "kept", "var/lib/kiln"].map(PathBuf::from).into();
        self.begin_until(fixed, NEVER).unwrap()
    }

    fn begin_until(&self, fixed: BTreeSet<PathBuf>, stop: Stop<'_>) -> io::Result<Exchange> {
        Exchange::begin_at((&self.top(), &self.root(), &self.state()), fixed, stop)
    }

    /// An exchange that has come as far as `phase`, with nothing of it done yet.
    fn killed_in(&self, phase: Phase) -> Exchange {
        let mut exchange = self.begin();
        if phase != Phase::Inside {
            send_out(&exchange.journal, (&self.top(), &self.state()), &self.root()).unwrap();
            let own = self.state().join(OWN);
            if phase == Phase::Leaving {
                bring_back(&exchange.journal, &self.top(), &self.state()).unwrap();
                make_folder(&own).unwrap();
            }
        }
        exchange.journal.enter(phase, &self.state()).unwrap();
        exchange
    }

    fn recovers(&self, exchange: Exchange) {
        drop(exchange);
        let _lock = lock(&self.state()).unwrap();
        recover_locked(&self.top(), &self.state()).unwrap();
        assert_eq!(files(&self.top()), self.own);
        assert!(!self.state().join(JOURNAL).exists() && !self.state().join("trash").exists());
    }
}

/// All files below a folder with their contents, without kiln's state.
fn files(folder: &Path) -> Vec<String> {
    fn visit(folder: &Path, top: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("var/lib/kiln") {
                continue;
            }
            if path.is_dir() {
                visit(&path, top, found);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                found.push(format!("{} {text}", path.strip_prefix(top).unwrap().display()));
            }
        }
    }
    let mut found = Vec::new();
    visit(folder, folder, &mut found);
    found.sort();
    found
}

#[test]
fn an_exchange_goes_there_and_back() {
    let world = World::new();
    let exchange = world.begin();
    assert_eq!(
        files(&world.top()),
        [
            "bin/deep/image image",
            "bin/sh image",
            "etc/hosts mounted",
            "etc/passwd image",
            "kept/file kept",
            "usr/x image"
        ]
    );
    fs::write(world.top().join("etc/new"), "made").unwrap();
    fs::write(world.top().join("var/lib/made"), "made").unwrap();
    exchange.end().unwrap();
    assert_eq!(files(&world.top()), world.own);
    let mut expected = world.image.clone();
    expected.extend(["etc/new made".to_owned(), "var/lib/made made".to_owned()]);
    expected.sort();
    assert_eq!(files(&world.root()), expected);
}

#[test]
fn own_files_that_had_not_left_yet_stay() {
    let world = World::new();
    let exchange = world.killed_in(Phase::Leaving);
    let own = world.state().join(OWN);
    // One folder has gone, of another half.
    fs::create_dir_all(own.join("bin/deep")).unwrap();
    fs::rename(world.top().join("bin/deep/er"), own.join("bin/deep/er")).unwrap();
    fs::create_dir_all(own.join("etc")).unwrap();
    fs::rename(world.top().join("etc/passwd"), own.join("etc/passwd")).unwrap();
    world.recovers(exchange);
    assert_eq!(files(&world.root()), world.image);
}

#[test]
fn an_images_files_are_removed_and_the_own_come_back() {
    let world = World::new();
    let exchange = world.killed_in(Phase::Inside);
    // Some have gone out already.
    fs::remove_dir_all(world.top().join("usr")).unwrap();
    world.recovers(exchange);
}

#[test]
fn own_files_that_are_back_already_stay() {
    let world = World::new();
    let exchange = world.killed_in(Phase::Returning);
    let own = world.state().join(OWN);
    fs::create_dir_all(world.top().join("bin/deep")).unwrap();
    fs::rename(own.join("bin/deep/er"), world.top().join("bin/deep/er")).unwrap();
    fs::rename(own.join("etc/passwd"), world.top().join("etc/passwd")).unwrap();
    world.recovers(exchange);
    assert_eq!(files(&world.root()), world.image);
}

/// Wherever it is stopped, all is where it was, and has the modes and times that it had.
#[test]
fn an_exchange_that_is_stopped_goes_back() {
    let whole = |world: &World| {
        let mut found = Vec::new();
        for folder in ["", "bin", "bin/deep", "etc", "var", "var/lib"] {
            let header = FolderMetadata::of(&world.top().join(folder)).unwrap();
            found.push((folder, header.mode, header.modified));
        }
        found
    };
    for steps in 0_usize.. {
        let world = World::new();
        fs::set_permissions(world.top().join("etc"), PermissionsExt::from_mode(0o751)).unwrap();
        let before = whole(&world);
        let left = std::cell::Cell::new(steps);
        let stop = || left.replace(left.get().saturating_sub(1)) == 0;
        let fixed = ["etc/hosts", "kept", "var/lib/kiln"].map(PathBuf::from).into();
        match world.begin_until(fixed, &stop) {
            Ok(exchange) => {
                assert!(steps >= 6, "{steps}");
                exchange.end().unwrap();
                break;
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Interrupted),
        }
        assert_eq!((files(&world.top()), whole(&world)), (world.own.clone(), before), "{steps}");
        assert_eq!(files(&world.root()), world.image);
        assert!(!world.state().join(JOURNAL).exists());
    }
}

/// A killed process has given its folders no headers: they come from the journal.
#[test]
fn modes_come_back_after_a_kill() {
    let world = World::new();
    let mode = |mode| PermissionsExt::from_mode(mode);
    fs::set_permissions(world.top().join("etc"), mode(0o710)).unwrap();
    let exchange = world.killed_in(Phase::Leaving);
    let own = world.state().join(OWN).join("etc");
    make_folder(&own).unwrap();
    fs::rename(world.top().join("etc/passwd"), own.join("passwd")).unwrap();
    world.recovers(exchange);
    let found = world.top().join("etc").metadata().unwrap().permissions().mode();
    assert_eq!(found & 0o7777, 0o710);
}

#[test]
fn what_a_shell_needs_comes_first() {
    let mut paths: Vec<_> =
        ["home", "usr/share", "etc", "bin", "usr/bin", "lib64", "root", "usr/lib", "sbin"]
            .map(Path::new)
            .into();
    paths.sort_by_key(|path| need(path));
    let expected =
        ["lib64", "usr/lib", "bin", "usr/bin", "sbin", "etc", "usr/share", "home", "root"];
    assert_eq!(paths, expected.map(Path::new));
}

#[test]
fn one_works_in_place_at_a_time() {
    let world = World::new();
    let exchange = world.begin();
    let again = world.begin_until(BTreeSet::new(), NEVER);
    assert!(again.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
    exchange.end().unwrap();
}

/// Where a folder cannot be renamed, as one of an overlay's lower layer, it is in two halves while its files move. A kill
/// can come at each of them, and what is found then goes back as it was.
#[test]
fn a_folder_in_halves_goes_back_as_it_was() {
    const TEST: &str = "in_place::a_folder_in_halves_goes_back_as_it_was";
    if !rustix::process::geteuid().is_root() {
        fixtures::skip(TEST, "it needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Mounts in a thread of its own, with which they end.
    std::thread::scope(|scope| scope.spawn(|| kill_between_halves(folder.path())).join().unwrap());
}

/// The entries of the folder in the test below: itself, two folders and four files.
const MOVES: usize = 7;

fn kill_between_halves(folder: &Path) {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let top = overlay(folder);
    let state = top.join("state");
    fs::create_dir(&state).unwrap();
    for kill in 0..=MOVES {
        let (from, to) = (top.join(kill.to_string()), top.join(format!("aside-{kill}")));
        let whole = modes(&from);
        let moved = std::cell::Cell::new(0);
        let stop = || {
            for half in [&from, &to] {
                assert!(modes(half).iter().all(|one| whole.contains(one)), "{:?}", modes(half));
            }
            // Nothing is tidied up after a panic, as after a kill.
            assert!(moved.replace(moved.get() + 1) < kill, "killed");
            false
        };
        let mover = Mover { state: &state, stop: &stop };
        let ended = catch_unwind(AssertUnwindSafe(|| mover.move_entry(&from, &to)));
        assert_eq!(ended.is_err(), kill < MOVES, "{kill}");
        if to.exists() {
            Mover { state: &state, stop: NEVER }.move_entry(&to, &from).unwrap();
        }
        assert_eq!(modes(&from), whole, "killed before move {kill}");
        assert!(!to.exists());
    }
}

/// The owners and modes below a folder that may not be there.
fn modes(folder: &Path) -> BTreeSet<(&'static str, u32, u32)> {
    let found = ["", "deep", "none", "a", "b", "deep/c", "deep/d"].into_iter().filter_map(|name| {
        use std::os::unix::fs::MetadataExt as _;
        let found = folder.join(name).symlink_metadata().ok()?;
        Some((name, found.uid(), found.mode()))
    });
    found.collect()
}

/// An overlay with the same folder several times in its lower layer, in a mount namespace of this thread's.
fn overlay(folder: &Path) -> PathBuf {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    crate::sys::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
    mount("tmpfs", folder, "tmpfs", MountFlags::empty(), None).unwrap();
    for name in ["lower", "upper", "work", "top"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    for number in 0..=MOVES {
        let copy = folder.join("lower").join(number.to_string());
        for (name, mode) in [("", 0o710), ("deep", 0o1777), ("none", 0o750)] {
            fs::create_dir(copy.join(name)).unwrap();
            fs::set_permissions(copy.join(name), fs::Permissions::from_mode(mode)).unwrap();
            std::os::unix::fs::chown(copy.join(name), Some(7), Some(8)).unwrap();
        }
        for name in ["a", "b", "deep/c", "deep/d"] {
            fs::write(copy.join(name), name).unwrap();
        }
    }
    let [lower, upper, work, top] = ["lower", "upper", "work", "top"].map(|name| folder.join(name));
    let options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=off",
        lower.display(),
        upper.display(),
        work.display()
    );
    let options = std::ffi::CString::new(options).unwrap();
    mount("overlay", &top, "overlay", MountFlags::empty(), options.as_c_str()).unwrap();
    top
}
