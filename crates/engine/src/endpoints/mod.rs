//! The table of the API's endpoints, with what becomes of each and of each parameter.

mod absent;
mod build;
mod containers;
mod endpoint;
mod images;
mod networks;
mod system;

pub(crate) use endpoint::{Action, Does};
pub use endpoint::{Endpoint, Handling, Parameter};

/// The groups of the table, in the order of the pages about it.
const GROUPS: &[&[Endpoint]] = &[
    system::SYSTEM,
    images::IMAGES,
    build::BUILD,
    containers::CONTAINERS,
    networks::NETWORKS,
    absent::ABSENT,
];

/// All endpoints. Of those that a path fits, the first is the most specific.
pub fn endpoints() -> impl Iterator<Item = &'static Endpoint> {
    GROUPS.iter().copied().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ApiError;
    use crate::query::Query;

    #[test]
    fn each_endpoint_and_parameter_is_there_once() {
        let all: BTreeSet<_> = endpoints().map(|row| (row.method, row.path)).collect();
        assert_eq!(all.len(), endpoints().count());
        for row in endpoints() {
            let names: BTreeSet<_> = row.parameters.iter().map(|row| row.name).collect();
            assert_eq!(names.len(), row.parameters.len(), "{}", row.path);
            assert!(!row.outcome().is_empty(), "{}", row.path);
        }
    }

    #[test]
    fn parameters_are_honoured_or_refused_by_name() {
        let build = endpoints().find(|row| row.path == "/build").unwrap();
        let judge = |text: &str| build.judge(&Query::parse(text).unwrap());
        assert_eq!(judge("t=a&memory=0&ulimits=null&isolation=&rm=1"), Ok(Vec::new()));
        assert_eq!(judge("squash=1").unwrap().len(), 1);
        assert!(judge("speed=9").unwrap_err().to_string().contains("`speed`"));
        let create = endpoints().find(|row| row.path == "/images/create").unwrap();
        let error = create.judge(&Query::parse("fromSrc=-").unwrap()).unwrap_err();
        assert!(matches!(error, ApiError::NotImplemented(_)), "{error}");
    }
}
