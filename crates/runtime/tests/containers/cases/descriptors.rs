//! Descriptors of files outside a plain folder that are passed to a command in it.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::Outcome;
use super::chroot::Plain;
use crate::fixture::Fixture;

/// Runs this program as the command that receives the descriptors.
pub const RECEIVE: &str = "--receive";

/// The path of the socket in the root.
const SOCKET: &str = "tmp/socket";

/// A path descriptor gives no access by itself. The supervisor, which opens the targets of `/proc/self/fd`, must not
/// give it either.
pub async fn paths_to_files_outside_open_nothing(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    let outside = fixture.folder();
    let secret = outside.join("secret");
    fs::write(&secret, "outside").unwrap();
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o755)).unwrap();
    let path = OFlags::PATH | OFlags::CLOEXEC;
    let descriptors = [&secret, &outside].map(|file| open(file, path, Mode::empty()).unwrap());
    let listener = UnixListener::bind(plain.root.join(SOCKET)).unwrap();
    let giver = std::thread::spawn(move || give(&listener.accept().unwrap().0, &descriptors));
    fs::copy("/proc/self/exe", plain.root.join("receiver")).unwrap();
    assert_eq!(plain.says(&plain.command(&["/receiver", RECEIVE])).await, "received\n");
    giver.join().unwrap();
    assert_eq!(fs::read_to_string(&secret).unwrap(), "outside");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "nothing was made there");
    Ok(())
}

fn give(stream: &UnixStream, descriptors: &[OwnedFd; 2]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files = [descriptors[0].as_fd(), descriptors[1].as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&files)));
    sendmsg(stream, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty()).unwrap();
}

/// Tries operations on the descriptors by path, and prints those that succeed.
pub fn receive() {
    let stream = UnixStream::connect(format!("/{SOCKET}")).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    recvmsg(&stream, &mut bytes, &mut ancillary, RecvFlags::empty()).unwrap();
    let received: Vec<OwnedFd> = ancillary
        .drain()
        .flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => files.collect::<Vec<_>>(),
            _ => Vec::new(),
        })
        .collect();
    let [file, folder] = &received[..] else { panic!("{received:?}") };
    println!("received");

    let links = ["/proc/self/fd", "/proc/thread-self/fd", "/dev/fd", "/proc/self/task/../fd"];
    for link in links {
        let (file, folder) = (file.as_raw_fd(), folder.as_raw_fd());
        try_all(&format!("{link}/{file}"));
        try_all(&format!("{link}/{folder}/secret"));
        let made = format!("{link}/{folder}/made");
        tell(&made, "make a file", fs::write(&made, "").is_ok());
        tell(&made, "make a folder", fs::create_dir(&made).is_ok());
        let listed = format!("{link}/{folder}");
        tell(&listed, "list", fs::read_dir(&listed).is_ok());
        tell(&listed, "enter", std::env::set_current_dir(&listed).is_ok());
    }
    for (what, how) in [("read", OFlags::RDONLY), ("write", OFlags::WRONLY)] {
        tell("the folder's file", what, openat(folder, "secret", how, Mode::empty()).is_ok());
    }
}

fn try_all(path: &str) {
    tell(path, "read", fs::File::open(path).is_ok());
    tell(path, "write", fs::OpenOptions::new().append(true).open(path).is_ok());
    tell(
        path,
        "change its mode",
        fs::set_permissions(path, PermissionsExt::from_mode(0o666)).is_ok(),
    );
    tell(path, "change its owner", std::os::unix::fs::chown(path, Some(1), None).is_ok());
    tell(path, "link it", fs::hard_link(path, "/stolen").is_ok());
    tell(path, "remove it", path.ends_with("secret") && fs::remove_file(path).is_ok());
    tell(path, "run", Command::new(path).status().is_ok());
}

fn tell(path: &str, what: &str, went_well: bool) {
    if went_well {
        println!("{what} {path}");
    }
}
