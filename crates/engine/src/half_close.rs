//! Connections whose client has sent everything and still reads.
//!
//! hyper takes the end of what a client sends for the end of the client, which is right for builds: they are given up.
//! A client that is attached to a container ends its input in this way. While that is allowed, the end is hidden from
//! hyper, and a client that is gone is found when something is written.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Says if the client of a connection may end its side now.
#[derive(Clone, Debug, Default)]
pub(crate) struct HalfClose(Arc<Mutex<Permission>>);

#[derive(Debug, Default)]
struct Permission {
    is_given: bool,
    /// The reader from whom the end was hidden.
    reader: Option<Waker>,
}

impl HalfClose {
    /// Allows it until the guard is dropped.
    pub(crate) fn allow(&self) -> HalfCloseGuard {
        self.lock().is_given = true;
        HalfCloseGuard(self.clone())
    }

    /// True if the end is hidden from a reader, which is woken when it no longer is.
    fn hides(&self, context: &Context<'_>) -> bool {
        let mut permission = self.lock();
        if permission.is_given {
            permission.reader = Some(context.waker().clone());
        }
        permission.is_given
    }

    fn lock(&self) -> MutexGuard<'_, Permission> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the permission when it is dropped.
#[derive(Debug)]
pub(crate) struct HalfCloseGuard(HalfClose);

impl Drop for HalfCloseGuard {
    fn drop(&mut self) {
        let mut permission = self.0.lock();
        permission.is_given = false;
        let reader = permission.reader.take();
        drop(permission);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// A connection that hides the end of input while [`HalfClose`] allows it.
#[derive(Debug)]
pub(crate) struct HalfCloseIo<C> {
    connection: C,
    half_close: HalfClose,
}

impl<C> HalfCloseIo<C> {
    pub(crate) fn new(connection: C, half_close: HalfClose) -> Self {
        Self { connection, half_close }
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for HalfCloseIo<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.connection).poll_read(context, buffer);
        let is_end = matches!(polled, Poll::Ready(Ok(()))) && buffer.filled().len() == before;
        if is_end && buffer.remaining() > 0 && self.half_close.hides(context) {
            Poll::Pending
        } else {
            polled
        }
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for HalfCloseIo<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn the_end_is_hidden_while_that_is_allowed() {
        let half_close = HalfClose::default();
        let mut connection = HalfCloseIo::new(&b"ab"[..], half_close.clone());
        let mut bytes = [0; 8];
        let guard = half_close.allow();
        assert_eq!(connection.read(&mut bytes).await.unwrap(), 2);
        let pending = poll_once(connection.read(&mut bytes));
        assert!(pending.is_pending());
        drop(guard);
        assert_eq!(connection.read(&mut bytes).await.unwrap(), 0);
    }

    fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(future).poll(&mut context)
    }
}
