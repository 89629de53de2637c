//! Bodies of requests that are JSON: a table has their fields, with what becomes of each.
//!
//! A body is read twice: [`fields::judge`] looks at the name and value of each field, so that none is overlooked, and serde
//! makes types of what is left. Both see the same value, in which a name is there once.

mod builder;
mod create;
mod create_fields;
mod exec;
mod fields;
mod mounts;
mod ports;

pub(crate) use builder::without_state;
pub use create::read_create;
pub(crate) use exec::{read_exec, read_exec_start};
pub use fields::BodyField;

/// The fields of an endpoint's body.
#[derive(Clone, Copy, Debug)]
pub struct RequestBody {
    /// The HTTP method.
    pub method: &'static str,
    /// The path of the endpoint, as in the table of endpoints.
    pub path: &'static str,
    /// The fields; others are refused by name.
    pub fields: &'static [BodyField],
}

/// The bodies that are objects of many fields.
pub const REQUEST_BODIES: &[RequestBody] = &[
    RequestBody {
        method: "POST",
        path: "/containers/create",
        fields: create_fields::CREATE_FIELDS,
    },
    RequestBody { method: "POST", path: "/containers/{id}/exec", fields: exec::EXEC_FIELDS },
    RequestBody { method: "POST", path: "/exec/{id}/start", fields: exec::EXEC_START_FIELDS },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_tables_have_each_field_once() {
        for body in REQUEST_BODIES {
            let paths: BTreeSet<_> = body.fields.iter().map(|field| field.path).collect();
            assert_eq!(paths.len(), body.fields.len(), "{}", body.path);
            let endpoint =
                crate::endpoints().find(|row| (row.method, row.path) == (body.method, body.path));
            assert!(endpoint.is_some(), "{}", body.path);
        }
    }
}
