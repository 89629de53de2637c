//! Events of the engine (`GET /events`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::container_filters::LabelFilter;
use crate::{ContainerIdentity, Filters};

/// Events that are remembered, and that a slow client may be behind; it misses what is older.
const BEHIND: usize = 256;

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineEvent {
    /// The object's kind: `image`, `builder`, `container`.
    pub kind: &'static str,
    /// The deed: `pull`, `tag`.
    pub action: &'static str,
    /// The object's name or ID.
    pub id: String,
    /// Facts about it.
    pub attributes: BTreeMap<String, String>,
}

impl EngineEvent {
    /// An event of an image.
    pub fn image(action: &'static str, id: impl Into<String>) -> Self {
        let id = id.into();
        let attributes = BTreeMap::from([("name".to_owned(), id.clone())]);
        Self { kind: "image", action, id, attributes }
    }

    /// An event of a container. Clients read `exitCode` of a `die`.
    pub fn container(
        action: &'static str,
        container: &ContainerIdentity,
        facts: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        let mut attributes = container.labels.clone();
        attributes.insert("image".to_owned(), container.image.clone());
        attributes.insert("name".to_owned(), container.name.clone());
        attributes.extend(facts.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Self { kind: "container", action, id: container.id.to_string(), attributes }
    }

    fn value(&self, now: SystemTime) -> Value {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut value = json!({
            "status": self.action, "id": self.id, "Type": self.kind, "Action": self.action,
            "Actor": { "ID": self.id, "Attributes": self.attributes },
            "scope": "local", "time": since.as_secs(),
            "timeNano": u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        });
        if let Some(image) = self.attributes.get("image").filter(|_| self.kind == "container") {
            value["from"] = image.as_str().into();
        }
        value
    }

    /// True if the event passes the filters of a request.
    fn passes(&self, filters: &Filters) -> bool {
        let name = |text: &str| text.split(['@']).next().unwrap_or_default().to_owned();
        let is_container = self.kind == "container";
        let image = if is_container {
            self.attributes.get("image").map_or("", String::as_str)
        } else {
            &self.id
        };
        let of = |key: &'static str, actual: &dyn Fn(&str) -> bool| {
            let mut wanted = filters.all(key).peekable();
            wanted.peek().is_none() || wanted.any(actual)
        };
        of("type", &|kind| kind == self.kind)
            && of("event", &|action| action == self.action)
            && of("image", &|wanted| {
                image == wanted || name(image).rsplit_once(':').is_some_and(|(n, _)| n == wanted)
            })
            && of("container", &|wanted| is_container && self.is_named(wanted))
            && filters.all("label").all(|label| LabelFilter::new(label).fits(&self.attributes))
    }

    /// True if a client names the object so.
    fn is_named(&self, wanted: &str) -> bool {
        let wanted = wanted.trim_start_matches('/');
        let is_name = self.attributes.get("name").is_some_and(|name| name == wanted);
        is_name || (!wanted.is_empty() && self.id.starts_with(wanted))
    }
}

/// An event and its time.
type TimedEvent = (SystemTime, EngineEvent);

/// Sends events to all clients that listen, and remembers the last ones.
#[derive(Clone, Debug)]
pub struct Events {
    sender: broadcast::Sender<TimedEvent>,
    past: Arc<Mutex<VecDeque<TimedEvent>>>,
}

impl Default for Events {
    fn default() -> Self {
        Self { sender: broadcast::channel(BEHIND).0, past: Arc::default() }
    }
}

impl Events {
    fn past(&self) -> MutexGuard<'_, VecDeque<TimedEvent>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all clients.
    pub fn send(&self, event: EngineEvent) {
        let mut past = self.past();
        let event = (SystemTime::now(), event);
        past.truncate(BEHIND - 1);
        past.push_front(event.clone());
        // An error means that no client listens.
        let _ = self.sender.send(event);
    }

    /// The events from now on, after those since a moment that are remembered.
    pub(crate) fn listen(&self, since: Option<SystemTime>) -> EventStream {
        // No event comes between the past and what is received.
        let past = self.past();
        let wanted = |(at, _): &&TimedEvent| since.is_some_and(|since| *at >= since);
        let past = past.iter().take_while(wanted).cloned().collect();
        EventStream { past, events: self.sender.subscribe() }
    }
}

/// The events for one client.
pub(crate) struct EventStream {
    /// The newest one first.
    past: Vec<TimedEvent>,
    events: broadcast::Receiver<TimedEvent>,
}

impl EventStream {
    /// The next event that passes, in JSON, with its time.
    pub(crate) async fn next(&mut self, filters: &Filters) -> Option<(SystemTime, String)> {
        loop {
            let next = match self.past.pop() {
                Some(event) => Ok(event),
                None => self.events.recv().await,
            };
            match next {
                Ok((at, event)) if event.passes(filters) => {
                    return Some((at, format!("{}\n", event.value(at))));
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ContainerId;

    #[tokio::test]
    async fn the_last_events_are_remembered() {
        let events = Events::default();
        events.send(EngineEvent::image("tag", "old"));
        for number in 0..BEHIND {
            events.send(EngineEvent::image("tag", number.to_string()));
        }
        let filters = Filters::default();
        let mut all = events.listen(Some(UNIX_EPOCH));
        assert_eq!(all.past.len(), BEHIND);
        assert!(all.next(&filters).await.unwrap().1.contains(r#""id":"0""#));
        let mut none = events.listen(None);
        events.send(EngineEvent::image("tag", "new"));
        assert!(none.next(&filters).await.unwrap().1.contains(r#""id":"new""#));
        assert!(
            events
                .listen(Some(SystemTime::now() + std::time::Duration::from_secs(9)))
                .past
                .is_empty()
        );
    }

    #[test]
    fn filters_choose() {
        let event = EngineEvent::image("tag", "app:1");
        let filters = |pairs: &[(&str, &str)]| {
            let pair = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
            Filters(pairs.iter().map(pair).collect())
        };
        for (pairs, passes) in [
            (&[][..], true),
            (&[("type", "image"), ("event", "pull"), ("event", "tag")], true),
            (&[("image", "app")], true),
            (&[("image", "app:2")], false),
            (&[("type", "container")], false),
            (&[("container", "app:1")], false),
        ] {
            assert_eq!(event.passes(&filters(pairs)), passes, "{pairs:?}");
        }
        let container = ContainerIdentity {
            id: ContainerId("0123".into()),
            name: "box".into(),
            image: "app:1".into(),
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        };
        let event = EngineEvent::container("die", &container, [("exitCode", "3".to_owned())]);
        for (pairs, passes) in [
            (&[("container", "box"), ("event", "die")][..], true),
            (&[("container", "012")], true),
            (&[("container", "other")], false),
            (&[("image", "app"), ("label", "a=b")], true),
            (&[("label", "a=c")], false),
        ] {
            assert_eq!(event.passes(&filters(pairs)), passes, "{pairs:?}");
        }
        let value = event.value(UNIX_EPOCH);
        assert_eq!(value["from"], "app:1");
        assert_eq!(value["Actor"]["Attributes"]["exitCode"], "3");
    }
}
