//! Reads files in every way that Linux has, each file in one way only, and checks what it gets: the program of a RUN whose
//! root is filled while it runs. A single file without dependencies.
//!
//! The files are in `/data`, named after the way, and their bytes follow from their names.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::raw::{c_char, c_int, c_long, c_void};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::process::Command;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn mmap(at: *mut c_void, size: usize, access: c_int, flags: c_int, fd: c_int, from: i64) -> *mut c_void;
    fn truncate(path: *const c_char, size: i64) -> c_int;
}

const SENDFILE: c_long = 40;
const SPLICE: c_long = 275;
const SETXATTR: c_long = 188;
const NAME_TO_HANDLE_AT: c_long = 303;
const OPEN_BY_HANDLE_AT: c_long = 304;
const COPY_FILE_RANGE: c_long = 326;
const OPENAT2: c_long = 437;
const AT_FDCWD: c_long = -100;
const O_PATH: c_int = 0o10000000;

/// The bytes of a file.
fn expected(name: &str) -> Vec<u8> {
    let seed = name.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..150_000 + name.len() * 1000).map(|_| next()).collect()
}

fn path(name: &str) -> String {
    format!("/data/{name}")
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn whole(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn read(path: &str) -> Vec<u8> {
    whole(File::open(path).unwrap())
}

/// Opens by openat2(2).
fn opened2(path: &str) -> File {
    let path = c(path);
    let how = [0_u64; 3];
    let fd = unsafe { syscall(OPENAT2, AT_FDCWD, path.as_ptr(), how.as_ptr(), 24_usize) };
    assert!(fd >= 0, "openat2");
    unsafe { File::from_raw_fd(fd as c_int) }
}

fn scratch(name: &str) -> File {
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(true).clone();
    options.open(format!("/tmp/{name}")).unwrap()
}

/// A file that the kernel copied to.
fn rewound(mut file: File) -> Vec<u8> {
    file.seek(SeekFrom::Start(0)).unwrap();
    whole(file)
}

type Way = fn(&str) -> Vec<u8>;

const WAYS: &[(&str, Way)] = &[
    ("open", |name| read(&path(name))),
    ("openat2", |name| whole(opened2(&path(name)))),
    ("pread", |name| {
        let mut bytes = vec![0; expected(name).len()];
        File::open(path(name)).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }),
    ("mmap", |name| {
        let file = File::open(path(name)).unwrap();
        let size = file.metadata().unwrap().len() as usize;
        let at = unsafe { mmap(std::ptr::null_mut(), size, 1, 2, file.as_raw_fd(), 0) };
        unsafe { std::slice::from_raw_parts(at.cast::<u8>(), size) }.to_vec()
    }),
    ("mmap_shared", |name| {
        let file = OpenOptions::new().read(true).write(true).open(path(name)).unwrap();
        let size = file.metadata().unwrap().len() as usize;
        let at = unsafe { mmap(std::ptr::null_mut(), size, 3, 1, file.as_raw_fd(), 0) };
        unsafe { std::slice::from_raw_parts(at.cast::<u8>(), size) }.to_vec()
    }),
    ("sendfile", |name| {
        let (from, to) = (File::open(path(name)).unwrap(), scratch(name));
        let size = from.metadata().unwrap().len();
        let sent = unsafe { syscall(SENDFILE, to.as_raw_fd(), from.as_raw_fd(), 0_usize, size) };
        assert_eq!(sent as u64, size);
        rewound(to)
    }),
    ("splice", |name| {
        let from = File::open(path(name)).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let reading = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let mut reader = reader;
            reader.read_to_end(&mut bytes).unwrap();
            bytes
        });
        loop {
            let to = writer.as_raw_fd();
            let sent =
                unsafe { syscall(SPLICE, from.as_raw_fd(), 0_usize, to, 0_usize, 65536_usize, 0) };
            assert!(sent >= 0);
            if sent == 0 {
                break;
            }
        }
        drop(writer);
        reading.join().unwrap()
    }),
    ("copy_file_range", |name| {
        let (from, to) = (File::open(path(name)).unwrap(), scratch(name));
        let mut left = from.metadata().unwrap().len() as usize;
        while left > 0 {
            let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
            let sent = unsafe { syscall(COPY_FILE_RANGE, from, 0_usize, to, 0_usize, left, 0) };
            assert!(sent > 0, "copy_file_range");
            left -= sent as usize;
        }
        rewound(to)
    }),
    ("link", |name| {
        fs::hard_link(path(name), "/data/linked").unwrap();
        read("/data/linked")
    }),
    ("rename", |name| {
        fs::rename(path(name), "/data/renamed").unwrap();
        read("/data/renamed")
    }),
    ("symlink", |name| {
        symlink(path(name), "/tmp/pointer").unwrap();
        read("/tmp/pointer")
    }),
    ("chmod", |name| {
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o600)).unwrap();
        read(&path(name))
    }),
    ("chown", |name| {
        std::os::unix::fs::chown(path(name), Some(7), Some(8)).unwrap();
        read(&path(name))
    }),
    ("utimes", |name| {
        assert!(Command::new("/bin/busybox").args(["touch", &path(name)]).status().unwrap().success());
        read(&path(name))
    }),
    ("setxattr", |name| {
        let (file, key) = (c(&path(name)), c("user.note"));
        // Where the file system has no attributes, nothing happens.
        unsafe { syscall(SETXATTR, file.as_ptr(), key.as_ptr(), c"1".as_ptr(), 1_usize, 0) };
        read(&path(name))
    }),
    ("truncate", |name| {
        let file = c(&path(name));
        assert_eq!(unsafe { truncate(file.as_ptr(), 100_000) }, 0);
        let mut bytes = read(&path(name));
        assert_eq!(bytes.len(), 100_000);
        bytes.extend_from_slice(&expected(name)[100_000..]);
        bytes
    }),
    ("enlarge", |name| {
        let (file, size) = (c(&path(name)), expected(name).len());
        assert_eq!(unsafe { truncate(file.as_ptr(), size as i64 + 5) }, 0);
        let mut bytes = read(&path(name));
        assert_eq!(bytes.split_off(size), [0; 5]);
        bytes
    }),
    ("ftruncate", |name| {
        let file = OpenOptions::new().write(true).open(path(name)).unwrap();
        file.set_len(1000).unwrap();
        let mut bytes = read(&path(name));
        bytes.extend_from_slice(&expected(name)[1000..]);
        bytes
    }),
    ("append", |name| {
        let mut file = OpenOptions::new().append(true).open(path(name)).unwrap();
        file.write_all(b"more").unwrap();
        let mut bytes = read(&path(name));
        assert_eq!(bytes.split_off(expected(name).len()), b"more");
        bytes
    }),
    ("overwrite", |name| {
        let file = OpenOptions::new().write(true).open(path(name)).unwrap();
        file.write_all_at(&expected(name)[5..6], 5).unwrap();
        read(&path(name))
    }),
    ("reopen", |name| {
        let named = OpenOptions::new().read(true).custom_flags(O_PATH).open(path(name)).unwrap();
        read(&format!("/proc/self/fd/{}", named.as_raw_fd()))
    }),
    ("handle", |name| {
        let mut handle = [0_u32; 34];
        handle[0] = 128;
        let (file, mut mount) = (c(&path(name)), 0);
        let at = handle.as_mut_ptr();
        let named = unsafe {
            syscall(NAME_TO_HANDLE_AT, AT_FDCWD, file.as_ptr(), at, &raw mut mount, 0)
        };
        let root = File::open("/data").unwrap();
        let fd = unsafe { syscall(OPEN_BY_HANDLE_AT, root.as_raw_fd(), at, 0) };
        // Refused without rights that a RUN does not have; what counts is that no zeros come.
        match named == 0 && fd >= 0 {
            true => whole(unsafe { File::from_raw_fd(fd as c_int) }),
            false => read(&path(name)),
        }
    }),
    ("child", |name| {
        Command::new("/bin/busybox").args(["cat", &path(name)]).output().unwrap().stdout
    }),
    ("input", |name| {
        let input = File::open(path(name)).unwrap();
        Command::new("/bin/busybox").arg("cat").stdin(input).output().unwrap().stdout
    }),
    ("threads", |name| {
        let all: Vec<_> = (0..8).map(|_| {
            let path = path(name);
            std::thread::spawn(move || read(&path))
        }).collect();
        let mut all: Vec<_> = all.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
        all.remove(0)
    }),
    ("unlinked", |name| {
        let file = File::open(path(name)).unwrap();
        fs::remove_file(path(name)).unwrap();
        whole(file)
    }),
    ("space", |name| {
        // Programs take a file without any space for one of zeros, and skip what is no data.
        let before = fs::metadata(path(name)).unwrap();
        assert!(before.blocks() * 512 >= before.len(), "{} blocks", before.blocks());
        let mut file = File::open(path(name)).unwrap();
        let end = unsafe { syscall(8, file.as_raw_fd(), 0_i64, 4) };
        assert_eq!(end as u64, before.len(), "a hole");
        let after = file.metadata().unwrap();
        assert_eq!((before.len(), before.mtime()), (after.len(), after.mtime()));
        file.seek(SeekFrom::Start(0)).unwrap();
        whole(file)
    }),
    ("other_name", |name| read(&format!("{}.second", path(name)))),
    ("moved_folder", |_| {
        let whole = read("/data/folder/moved_folder");
        assert!(Command::new("/bin/busybox").args(["mv", "/data/folder", "/data/elsewhere"]).status().unwrap().success());
        let again = read("/data/elsewhere/moved_folder");
        assert_eq!(whole, again);
        again
    }),
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // Outside: makes the files.
    if let Some(folder) = arguments.get(1) {
        fs::create_dir_all(format!("{folder}/folder")).unwrap();
        for (name, _) in WAYS {
            let within = if *name == "moved_folder" { "folder/" } else { "" };
            fs::write(format!("{folder}/{within}{name}"), expected(name)).unwrap();
        }
        fs::hard_link(format!("{folder}/other_name"), format!("{folder}/other_name.second")).unwrap();
        return;
    }
    let mut wrong = 0;
    for (name, way) in WAYS {
        let result = std::panic::catch_unwind(|| way(name) == expected(name));
        if !matches!(result, Ok(true)) {
            println!("WRONG: {name}");
            wrong += 1;
        }
    }
    println!("{} ways, {wrong} wrong", WAYS.len());
    std::process::exit(i32::from(wrong > 0));
}
