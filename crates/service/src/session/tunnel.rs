//! A connection inside of a stream of messages (`Control.Session`).

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::proto::BytesMessage;

/// Bytes between the tunnel and HTTP/2, each way.
const BUFFER: usize = 256 << 10;
/// The largest message that is sent; grpc-go takes 4 MiB.
const LARGEST: usize = 64 << 10;

/// The connection that a client tunnels through `incoming`, and the messages for it.
pub(crate) fn tunnel(
    incoming: Streaming<BytesMessage>,
) -> (DuplexStream, mpsc::Receiver<Result<BytesMessage, Status>>) {
    let (near, far) = tokio::io::duplex(BUFFER);
    let (read, mut write) = tokio::io::split(far);
    let (send, outgoing) = mpsc::channel(4);
    tokio::spawn(async move {
        write_messages(incoming, &mut write).await;
        // The other half may have gone first.
        let _ = write.shutdown().await;
    });
    tokio::spawn(send_messages(read, LARGEST, send, Ok));
    (near, outgoing)
}

/// Writes the messages of a stream to a connection, until either ends.
pub(super) async fn write_messages(
    mut incoming: Streaming<BytesMessage>,
    write: &mut WriteHalf<DuplexStream>,
) {
    // An error of the stream ends the connection as its end does.
    while let Ok(Some(message)) = incoming.message().await {
        if write.write_all(&message.data).await.is_err() {
            break;
        }
    }
}

/// Sends what is read of a connection as messages of at most `largest` bytes, until either ends.
pub(super) async fn send_messages<M>(
    mut read: ReadHalf<DuplexStream>,
    largest: usize,
    send: mpsc::Sender<M>,
    message: fn(BytesMessage) -> M,
) {
    loop {
        let mut data = bytes::BytesMut::with_capacity(largest);
        match read.read_buf(&mut data).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {
                if send.send(message(BytesMessage { data: data.freeze() })).await.is_err() {
                    break;
                }
            }
        }
    }
}
