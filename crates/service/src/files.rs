//! `LLBBridge`'s reading of files: of a result, inside of its folder, whatever links are in it.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use graph::Glob;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags};
use tonic::{Request, Status};

use crate::builder::ResultFolder;
use crate::daemon::Daemon;
use crate::filesync::mode;
use crate::grpc::LARGEST_MESSAGE;
use crate::proto::fsutil::Stat;
use crate::proto::gateway::{
    ReadDirRequest, ReadDirResponse, ReadFileRequest, ReadFileResponse, StatFileRequest,
    StatFileResponse,
};

/// The largest part of a file that one answer has.
const LARGEST_READ: u64 = LARGEST_MESSAGE as u64 - (64 << 10);

impl Daemon {
    /// The files of a result, which is built first.
    async fn files_of<T>(&self, request: &Request<T>, id: &str) -> Result<ResultFolder, Status> {
        let build = self.builds.of_call(request).await?;
        let missing = || Status::not_found(format!("no such reference {}", id.escape_debug()));
        let solve = build.solve(id).ok_or_else(missing)?;
        let cell = {
            let mut files = build.files.lock().unwrap_or_else(PoisonError::into_inner);
            files.entry(id.to_owned()).or_default().clone()
        };
        let made = cell.get_or_try_init(|| self.builder.files(solve, build.progress.events()));
        Ok(made.await?.clone())
    }
}

/// Runs work that blocks, on a path of a result.
async fn on_path<T: Send + 'static>(
    folder: ResultFolder,
    path: String,
    work: impl FnOnce(&Path, &str) -> io::Result<T> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(move || {
        let result = work(&folder.path, &path);
        result.map_err(|error| match error.kind() {
            // Go's words, which clients look for.
            io::ErrorKind::NotFound => {
                Status::not_found(format!("{path}: no such file or directory"))
            }
            _ => Status::unknown(format!("{path}: {error}")),
        })
    });
    done.await.map_err(|error| Status::internal(error.to_string()))?
}

/// Opens a path inside of a folder: links lead no further than its root.
fn open(root: &Path, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let root = rustix::fs::openat(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let path = path.trim_start_matches('/');
    let path = if path.is_empty() { "." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

fn header(folder: &OwnedFd, name: &str) -> io::Result<Option<Stat>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let known = rustix::fs::statat(folder, name, flags)?;
    let Some(mode) = mode::of_unix(known.st_mode) else { return Ok(None) };
    let is_link = rustix::fs::FileType::from_raw_mode(known.st_mode).is_symlink();
    let linkname = if is_link {
        let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
        target.to_string_lossy().into_owned()
    } else {
        String::new()
    };
    Ok(Some(Stat {
        path: name.to_owned(),
        mode,
        uid: known.st_uid,
        gid: known.st_gid,
        size: known.st_size,
        mod_time: known
            .st_mtime
            .saturating_mul(1_000_000_000)
            .saturating_add_unsigned(known.st_mtime_nsec),
        linkname,
        ..Stat::default()
    }))
}

/// `LLBBridge.StatFile`.
pub(crate) async fn stat_file(
    daemon: Arc<Daemon>,
    request: Request<StatFileRequest>,
) -> Result<StatFileResponse, Status> {
    let folder = daemon.files_of(&request, &request.get_ref().r#ref).await?;
    let stat = on_path(folder, request.into_inner().path, |root, path| {
        let found = open(root, path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let mut stat = header(&found, "")?;
        if let Some(stat) = &mut stat {
            path.rsplit('/').next().unwrap_or(path).clone_into(&mut stat.path);
        }
        Ok(stat)
    });
    Ok(StatFileResponse { stat: stat.await? })
}

/// `LLBBridge.ReadFile`.
pub(crate) async fn read_file(
    daemon: Arc<Daemon>,
    request: Request<ReadFileRequest>,
) -> Result<ReadFileResponse, Status> {
    let folder = daemon.files_of(&request, &request.get_ref().r#ref).await?;
    let ReadFileRequest { file_path, range, .. } = request.into_inner();
    let range = range.unwrap_or_default();
    let data = on_path(folder, file_path, move |root, path| {
        let mut file = std::fs::File::from(open(root, path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let offset = u64::try_from(range.offset).map_err(io::Error::other)?;
        file.seek(SeekFrom::Start(offset))?;
        // 0 is all of it.
        let wanted = u64::try_from(range.length).ok().filter(|length| *length > 0);
        let wanted = wanted.unwrap_or(u64::MAX);
        let mut data = Vec::new();
        (&mut file).take(wanted.min(LARGEST_READ + 1)).read_to_end(&mut data)?;
        if data.len() as u64 > LARGEST_READ {
            return Err(io::Error::other(format!("more than {LARGEST_READ} bytes at once")));
        }
        Ok(data)
    });
    Ok(ReadFileResponse { data: data.await? })
}

/// `LLBBridge.ReadDir`.
pub(crate) async fn read_dir(
    daemon: Arc<Daemon>,
    request: Request<ReadDirRequest>,
) -> Result<ReadDirResponse, Status> {
    let folder = daemon.files_of(&request, &request.get_ref().r#ref).await?;
    let ReadDirRequest { dir_path, include_pattern, .. } = request.into_inner();
    let pattern = match include_pattern.as_str() {
        "" => None,
        text => Some(Glob::new(text).map_err(|error| Status::invalid_argument(error.to_string()))?),
    };
    let entries = on_path(folder, dir_path, move |root, path| {
        let opened = open(root, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(opened.as_fd())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let is_wanted = pattern.as_ref().is_none_or(|pattern| pattern.matches(name.as_bytes()));
            if matches!(name.as_str(), "." | "..") || !is_wanted {
                continue;
            }
            entries.extend(header(&opened, &name)?);
        }
        entries.sort_by(|one: &Stat, other: &Stat| one.path.cmp(&other.path));
        Ok(entries)
    });
    Ok(ReadDirResponse { entries: entries.await? })
}
