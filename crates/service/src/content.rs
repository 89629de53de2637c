//! Blobs by digest: those of records of builds, and those of the store.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use oci::Digest;
use tokio::sync::mpsc;
use tonic::{Request, Status};

use crate::daemon::Daemon;
use crate::grpc::{Messages, received};
use crate::proto::content::{
    Info, InfoRequest, InfoResponse, ReadContentRequest, ReadContentResponse,
};

/// The pieces in which a blob is sent.
const PIECE: usize = 1 << 20;

impl Daemon {
    fn blob(&self, digest: &str) -> Result<File, Status> {
        let shown = digest.escape_debug();
        let parsed: Digest = digest
            .parse()
            .map_err(|_| Status::invalid_argument(format!("`{shown}` is not a digest")))?;
        let found = self.history.blob(&parsed).or_else(|| self.builder.blob(&parsed));
        found.ok_or_else(|| Status::not_found(format!("content {shown}: not found")))
    }
}

/// `Content.Info`.
pub(crate) async fn info(
    daemon: Arc<Daemon>,
    request: Request<InfoRequest>,
) -> Result<InfoResponse, Status> {
    let digest = request.into_inner().digest;
    let size = daemon.blob(&digest)?.metadata().map_err(internal)?.len();
    let info = Info { digest, size: size.cast_signed(), ..Info::default() };
    Ok(InfoResponse { info: Some(info) })
}

/// `Content.Read`.
pub(crate) async fn read(
    daemon: Arc<Daemon>,
    request: Request<ReadContentRequest>,
) -> Result<Messages<ReadContentResponse>, Status> {
    let request = request.into_inner();
    let mut file = daemon.blob(&request.digest)?;
    let start = u64::try_from(request.offset)
        .map_err(|_| Status::out_of_range("a blob has no negative offset"))?;
    // 0 is all of it.
    let mut left = u64::try_from(request.size).ok().filter(|size| *size > 0).unwrap_or(u64::MAX);
    file.seek(SeekFrom::Start(start)).map_err(internal)?;
    let (send, pieces) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        let mut offset = request.offset;
        loop {
            let mut data = Vec::new();
            let read = (&mut file).take(left.min(PIECE as u64)).read_to_end(&mut data);
            let piece = match read {
                Ok(0) => return,
                Ok(count) => {
                    let at = offset;
                    offset += count as i64;
                    left -= count as u64;
                    Ok(ReadContentResponse { offset: at, data: data.into() })
                }
                Err(error) => Err(internal(error)),
            };
            let is_last = piece.is_err();
            if send.blocking_send(piece).is_err() || is_last {
                return;
            }
        }
    });
    Ok(Box::pin(received(pieces)))
}

fn internal(error: std::io::Error) -> Status {
    Status::internal(error.to_string())
}
