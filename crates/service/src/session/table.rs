//! The open sessions by their ids.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{ClientSession, SessionEnd, SessionHeaders};
use crate::change_signal::ChangeSignal;

/// The time that a build waits for its session, which can come after it (BuildKit's limit).
const PATIENCE: Duration = Duration::from_secs(5);
/// The most sessions at once.
const MOST_SESSIONS: usize = 4096;

/// Why a session cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The request has no id.
    #[error("a session needs the header `X-Docker-Expose-Session-Uuid`")]
    NoId,
    /// There is one with this id.
    #[error("session `{0}` already exists")]
    Exists(String),
    /// There are too many.
    #[error("{MOST_SESSIONS} sessions are open, and no more can be opened")]
    TooMany,
    /// The client has not opened it in time.
    #[error("no active session for `{0}`: the client did not open one")]
    Missing(String),
    /// The other end does not speak HTTP/2.
    #[error("beginning a session: {0}")]
    Handshake(#[source] hyper::Error),
}

/// The open sessions. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Sessions(Arc<SharedSessions>);

#[derive(Debug, Default)]
struct SharedSessions {
    open: Mutex<HashMap<String, Arc<ClientSession>>>,
    changes: ChangeSignal,
}

impl Sessions {
    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<ClientSession>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session over a connection, as [`ClientSession::over`], and makes it known until its
    /// client has gone.
    ///
    /// # Errors
    /// If the other end does not speak HTTP/2, there is a session with its id, or there are too many.
    pub async fn serve(
        &self,
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        headers: SessionHeaders,
    ) -> Result<(), SessionError> {
        let (session, end) = ClientSession::over(io, headers).await?;
        self.hold(session, end).await
    }

    async fn hold(&self, session: Arc<ClientSession>, end: SessionEnd) -> Result<(), SessionError> {
        let id = session.id().to_owned();
        {
            let mut open = self.open();
            if open.len() >= MOST_SESSIONS {
                return Err(SessionError::TooMany);
            }
            if open.contains_key(&id) {
                return Err(SessionError::Exists(id));
            }
            open.insert(id.clone(), session);
        }
        let _entry = Entry { sessions: self, id };
        self.0.changes.note();
        end.await;
        Ok(())
    }

    /// The session of an id, for which this waits a little.
    ///
    /// # Errors
    /// If the client does not open it.
    pub async fn get(&self, id: &str) -> Result<Arc<ClientSession>, SessionError> {
        let find = || self.open().get(id).cloned();
        let found = self.0.changes.wait_for(PATIENCE, find).await;
        found.ok_or_else(|| SessionError::Missing(id.to_owned()))
    }

    /// The number of open sessions.
    pub fn len(&self) -> usize {
        self.open().len()
    }

    /// True if no session is open.
    pub fn is_empty(&self) -> bool {
        self.open().is_empty()
    }
}

/// A session in the table; it leaves when this is dropped.
struct Entry<'a> {
    sessions: &'a Sessions,
    id: String,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.sessions.open().remove(&self.id);
        self.sessions.0.changes.note();
    }
}
