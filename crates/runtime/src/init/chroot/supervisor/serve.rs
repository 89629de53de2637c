//! Doing a call on the machine's own files.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FileType, MemfdFlags, Mode, OFlags, ResolveFlags, StatxFlags, fstat, fstatfs,
    memfd_create, openat2, readlinkat, statx, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::super::folders::{is_masked, list_processes};
use super::callers::Rights;
use super::paths::{clean, is_at_or_below};
use super::{
    Answer, Caller, Given, Mounted, Supervisor, Wish, bytes_of, descendants, descends_from,
};

/// How long a program may take from its call to execute a link in `/proc` to the kernel's reading of that link. Only
/// waited for where another program is wanted next.
const EXECUTION: Duration = Duration::from_millis(2);

/// A path in the kernel's folders, understood.
enum Lead {
    /// `/proc` itself.
    Processes,
    /// A file that is written here: what is mounted.
    Mounts(&'static str),
    /// A path of this machine.
    Machine(PathBuf),
    /// A path of the root, behind a link of a process.
    Root(Vec<u8>),
}

impl Supervisor {
    /// Does what is wished with a path in the kernel's folders.
    pub(super) fn serve(
        &mut self,
        tid: i32,
        wish: &Wish,
        path: &[u8],
    ) -> rustix::io::Result<Given> {
        let caller = Caller::find(tid)?;
        let lead = self.lead(tid, &caller, path, wish.follows())?;
        let rights = &caller.rights;
        match wish {
            Wish::Open { flags } => self.open(&lead, rights, *flags),
            Wish::Stat { buffer, follow } => {
                let Some(file) = self.find(&lead, rights, *follow)? else { return go_on() };
                let stat = fstat(file)?;
                self.callers.write(tid, *buffer, bytes_of(&stat))?;
                Ok(Given::Answer(Answer::Value(0)))
            }
            Wish::Statx { buffer, follow, mask } => {
                let Some(file) = self.find(&lead, rights, *follow)? else { return go_on() };
                let mask = StatxFlags::from_bits_retain(*mask & !libc::STATX__RESERVED as u32);
                let stat = statx(file, "", AtFlags::EMPTY_PATH, mask)?;
                self.callers.write(tid, *buffer, bytes_of(&stat))?;
                Ok(Given::Answer(Answer::Value(0)))
            }
            Wish::StatFs { buffer } => {
                let file = match self.find(&lead, rights, true)? {
                    Some(file) => file,
                    None => self.callers.open_as(rights, Path::new("/proc"), OFlags::PATH)?,
                };
                let stat = fstatfs(file)?;
                self.callers.write(tid, *buffer, bytes_of(&stat))?;
                Ok(Given::Answer(Answer::Value(0)))
            }
            Wish::ReadLink { buffer, size } => {
                let text = match path {
                    b"/proc/self" => caller.process.to_string().into_bytes(),
                    b"/proc/thread-self" => format!("{}/task/{tid}", caller.process).into_bytes(),
                    _ => {
                        let Some(file) = self.find(&lead, rights, false)? else { return go_on() };
                        self.link_text(&file)?
                    }
                };
                let length = text.len().min(usize::try_from(*size).unwrap_or(usize::MAX));
                self.callers.write(tid, *buffer, &text[..length])?;
                Ok(Given::Answer(Answer::Value(length as i64)))
            }
            Wish::Access { mode } => match &lead {
                Lead::Machine(path) => {
                    self.callers.access_as(rights, path, *mode)?;
                    Ok(Given::Answer(Answer::Value(0)))
                }
                Lead::Mounts(_) if mode & libc::W_OK as u32 == 0 => {
                    Ok(Given::Answer(Answer::Value(0)))
                }
                Lead::Mounts(_) => Err(Errno::ACCESS),
                Lead::Processes => go_on(),
                Lead::Root(_) => {
                    self.find(&lead, rights, true)?;
                    Ok(Given::Answer(Answer::Value(0)))
                }
            },
            Wish::Execute => self.execute(&lead, rights),
            Wish::Attribute { follow } | Wish::Attributes { follow } => {
                self.find(&lead, rights, *follow)?;
                match wish {
                    Wish::Attribute { .. } => Err(Errno::OPNOTSUPP),
                    _ => Ok(Given::Answer(Answer::Value(0))),
                }
            }
            Wish::OpenHow { .. } | Wish::Link { .. } | Wish::Change { .. } => go_on(),
        }
    }

    /// Understands a path.
    fn lead(
        &self,
        tid: i32,
        caller: &Caller,
        path: &[u8],
        follow: bool,
    ) -> rustix::io::Result<Lead> {
        let Some(inside) = path.strip_prefix(b"/proc") else {
            return match path {
                b"/sys/firmware" | b"/sys/devices/virtual/powercap" => Err(Errno::NOENT),
                _ => Ok(machine(path)),
            };
        };
        let inside = inside.strip_prefix(b"/").unwrap_or(inside);
        if inside.is_empty() {
            return Ok(Lead::Processes);
        }
        let end = inside.iter().position(|byte| *byte == b'/').unwrap_or(inside.len());
        let (first, rest) = (&inside[..end], inside[end..].strip_prefix(b"/").unwrap_or_default());
        if is_masked(first) {
            return Err(Errno::NOENT);
        }
        let is_last = rest.is_empty() && !follow;
        let own = match first {
            b"self" | b"thread-self" if is_last => return Ok(machine(path)),
            b"self" => format!("/proc/{}", caller.process),
            b"thread-self" => format!("/proc/{}/task/{tid}", caller.process),
            b"mounts" if !is_last => return Ok(Lead::Mounts("mounts")),
            b"net" if !is_last => format!("/proc/{}/net", caller.process),
            _ => {
                let Some(pid) = std::str::from_utf8(first).ok().and_then(|text| text.parse().ok())
                else {
                    return Ok(machine(path));
                };
                if !descends_from(std::process::id() as i32, pid) {
                    return Err(Errno::NOENT);
                }
                format!("/proc/{pid}")
            }
        };
        self.lead_of_process(&own, rest)
    }

    /// Understands a path in a process's folder.
    fn lead_of_process(&self, folder: &str, rest: &[u8]) -> rustix::io::Result<Lead> {
        let names: Vec<&[u8]> =
            rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        let all = [folder.as_bytes(), b"/", rest].concat();
        // Threads have the same files.
        let own = match &names[..] {
            [b"task", _, own @ ..] => own,
            own => own,
        };
        let taken = names.len() - own.len();
        let link_length = match own {
            [b"mounts"] => return Ok(Lead::Mounts("mounts")),
            [b"mountinfo"] => return Ok(Lead::Mounts("mountinfo")),
            [b"root" | b"cwd", _, ..] => taken + 1,
            [b"fd" | b"map_files", _, _, ..] => taken + 2,
            _ => return Ok(machine(if rest.is_empty() { folder.as_bytes() } else { &all })),
        };
        // What is behind such a link is in the root, and its own links must not lead out.
        let link = [folder.as_bytes(), b"/", &names[..link_length].join(&b'/')].concat();
        let target = readlinkat(CWD, &link[..], Vec::new())?.into_bytes();
        let behind = names[link_length..].join(&b'/');
        match self.inside(&target) {
            Some(inside) => Ok(Lead::Root(clean(&inside, &behind))),
            None if is_at_or_below(&target, b"/proc") || is_at_or_below(&target, b"/sys") => {
                Ok(machine(&all))
            }
            None => Err(Errno::NOENT),
        }
    }

    fn open(&mut self, lead: &Lead, rights: &Rights, flags: OFlags) -> rustix::io::Result<Given> {
        let close_on_exec = flags.contains(OFlags::CLOEXEC);
        let file = match lead {
            Lead::Processes => {
                list_processes(&self.proc, &descendants(std::process::id() as i32));
                return go_on();
            }
            Lead::Mounts(name) => {
                if flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
                    return Err(Errno::ACCESS);
                }
                self.mounts(name)?
            }
            Lead::Machine(path) => {
                // A pipe would keep all others waiting for its other end.
                let is_pipe = self
                    .callers
                    .open_as(rights, path, OFlags::PATH)
                    .and_then(|file| {
                        Ok(FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::Fifo)
                    })
                    .unwrap_or(false);
                let own = (flags - OFlags::CLOEXEC) | OFlags::NOCTTY;
                let file = self.callers.open_as(
                    rights,
                    path,
                    if is_pipe { own | OFlags::NONBLOCK } else { own },
                )?;
                if is_pipe && !flags.contains(OFlags::NONBLOCK) {
                    let set = rustix::fs::fcntl_getfl(&file)?;
                    rustix::fs::fcntl_setfl(&file, set - OFlags::NONBLOCK)?;
                }
                file
            }
            Lead::Root(path) => self.open_inside(path, flags | OFlags::CLOEXEC)?,
        };
        Ok(Given::File(file, close_on_exec))
    }

    /// A file to be looked at; none for `/proc` itself, which is as the root shows it.
    fn find(
        &mut self,
        lead: &Lead,
        rights: &Rights,
        follow: bool,
    ) -> rustix::io::Result<Option<OwnedFd>> {
        let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        Ok(Some(match lead {
            Lead::Processes => return Ok(None),
            Lead::Mounts(name) => {
                self.callers.open_as(rights, &Path::new("/proc/self").join(name), flags)?
            }
            Lead::Machine(path) => self.callers.open_as(rights, path, flags)?,
            Lead::Root(path) => self.open_inside(path, flags | OFlags::CLOEXEC)?,
        }))
    }

    fn open_inside(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let root = PathBuf::from(std::ffi::OsString::from_vec(self.root.clone()));
        let root = rustix::fs::open(
            root,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        openat2(root, path, flags - OFlags::CREATE, Mode::empty(), ResolveFlags::IN_ROOT)
    }

    /// What a link says, as the root's own processes would see it.
    fn link_text(&self, link: &OwnedFd) -> rustix::io::Result<Vec<u8>> {
        let text = readlinkat(link, "", Vec::new())?.into_bytes();
        if text.first() != Some(&b'/') {
            return Ok(text);
        }
        if let Some(inside) = self.inside(&text) {
            return Ok(inside);
        }
        let kernels = [&b"/proc"[..], b"/sys", b"/dev", b"/memfd:"];
        let is_kernels = kernels.iter().any(|folder| text.starts_with(folder));
        Ok(if is_kernels { text } else { b"/".to_vec() })
    }

    /// What would be mounted: the kernel shows nothing to a process with a root of its own.
    fn mounts(&self, name: &str) -> rustix::io::Result<OwnedFd> {
        let mut text = String::new();
        let numbered = name == "mountinfo";
        for (place, mounted) in self.shown.mounted.iter().enumerate() {
            let Mounted { target, kind, readonly } = mounted;
            // As the kernel writes what would end a field.
            let target = target.replace('\\', "\\134").replace(' ', "\\040").replace('\n', "\\012");
            let mode = if *readonly { "ro" } else { "rw" };
            let line = if numbered {
                let above = if place == 0 { 0 } else { 1 };
                format!(
                    "{} {above} 0:{} / {target} {mode} - {kind} {kind} {mode}\n",
                    place + 1,
                    place + 1
                )
            } else {
                format!("{kind} {target} {kind} {mode} 0 0\n")
            };
            text.push_str(&line);
        }
        text.push_str(&machines_cgroups(name)?);
        let file = memfd_create(name, MemfdFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(file);
        file.write_all(text.as_bytes()).map_err(|_| Errno::IO)?;
        // Read-only, and from its beginning.
        let path = super::super::super::walk::fd_path(&file);
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }

    /// Lets the kernel execute what a link in `/proc` leads to. The kernel looks the path up by itself: so the link is
    /// made, in the `/proc` of the root, as that call has to see it.
    fn execute(&mut self, lead: &Lead, rights: &Rights) -> rustix::io::Result<Given> {
        let Lead::Machine(path) = lead else { return go_on() };
        let is_own = path.file_name().is_some_and(|name| name == "exe");
        if !is_own {
            return Err(Errno::ACCESS);
        }
        let link = self.callers.open_as(rights, path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = self.link_text(&link)?;
        if let Some((last, when)) = &self.executed {
            if *last == target {
                return go_on();
            }
            std::thread::sleep(EXECUTION.saturating_sub(when.elapsed()));
        }
        let place = rustix::fs::openat(
            &self.proc,
            "self",
            OFlags::PATH | OFlags::DIRECTORY,
            Mode::empty(),
        )?;
        let _ = unlinkat(&place, "exe", AtFlags::empty());
        symlinkat(&target[..], &place, "exe")?;
        self.executed = Some((target, Instant::now()));
        go_on()
    }
}

/// The machine's control groups, by which language runtimes size themselves.
fn machines_cgroups(name: &str) -> rustix::io::Result<String> {
    let text = std::fs::read_to_string(format!("/proc/self/{name}")).map_err(|_| Errno::IO)?;
    let place = if name == "mounts" { 1 } else { 4 };
    let target = |line: &str| line.split(' ').nth(place).unwrap_or_default().as_bytes().to_vec();
    let is_cgroup = |line: &&str| is_at_or_below(&target(line), b"/sys/fs/cgroup");
    Ok(text.lines().filter(is_cgroup).map(|line| format!("{line}\n")).collect())
}

fn go_on() -> rustix::io::Result<Given> {
    Ok(Given::Answer(Answer::GoOn))
}

fn machine(path: &[u8]) -> Lead {
    Lead::Machine(PathBuf::from(std::ffi::OsStr::from_bytes(path)))
}
