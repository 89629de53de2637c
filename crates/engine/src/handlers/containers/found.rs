//! The container that a request is about, and what it says of one.

use std::sync::Arc;

use crate::handlers::EndpointCall;
use crate::query::Query;
use crate::{ApiError, ConsoleSize, ContainerEngine, ContainerIdentity, EngineEvent, EngineServer};

/// The container that a request is about.
pub(super) struct Found<'e> {
    engine: &'e EngineServer,
    pub(super) containers: &'e Arc<dyn ContainerEngine>,
    pub(super) identity: ContainerIdentity,
}

impl<'e> Found<'e> {
    pub(super) async fn of(
        engine: &'e EngineServer,
        call: &EndpointCall,
    ) -> Result<Self, ApiError> {
        Self::named(engine, &call.name).await
    }

    pub(super) async fn named(engine: &'e EngineServer, name: &str) -> Result<Self, ApiError> {
        // Lists show names with a slash.
        let name = name.trim_start_matches('/');
        let missing = || ApiError::NotFound(format!("No such container: {name}"));
        // A service without containers has no container of this name either.
        let containers = engine.containers().map_err(|_| missing())?;
        if name.is_empty() {
            return Err(missing());
        }
        let identity = containers.find(name).await?;
        Ok(Self { engine, containers, identity })
    }

    /// Tells clients what was done.
    pub(super) fn tell<const N: usize>(
        &self,
        action: &'static str,
        facts: [(&'static str, String); N],
    ) {
        self.engine.events.send(EngineEvent::container(action, &self.identity, facts));
    }
}

/// `h` and `w`.
pub(super) fn console_size(query: &Query) -> Result<ConsoleSize, ApiError> {
    let number = |name: &str| -> Result<u16, ApiError> {
        let number: Option<u16> = query.number(name)?;
        number
            .filter(|number| *number > 0)
            .ok_or_else(|| ApiError::BadRequest(format!("`{name}` is missing")))
    };
    Ok(ConsoleSize { columns: number("w")?, rows: number("h")? })
}

/// Refuses a name that a container cannot have.
pub(super) fn check_name(name: &str) -> Result<(), ApiError> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric();
    let mut bytes = name.bytes();
    let fits = bytes.next().is_some_and(is_letter)
        && bytes.all(|byte| is_letter(byte) || b"_.-".contains(&byte))
        && (2..=255).contains(&name.len());
    if fits {
        return Ok(());
    }
    let name: String = name.chars().take(255).collect();
    Err(ApiError::BadRequest(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers() {
        for name in ["ab", "a_b.c-d", "0x", &"a".repeat(255)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "a", "-a", "a b", "a/b", "ä1", &"a".repeat(256)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
