//! Functions of digests.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA512};
use md5::Digest as _;
use serde_json::Value;

use super::text_at;
use crate::BakeError;

/// Calls a function of this family; `None` if it is of another one.
pub fn call(name: &str, arguments: &[Value]) -> Option<Result<Value, BakeError>> {
    let made: fn(&str) -> String = match name {
        "md5" => |text| hex(&md5::Md5::digest(text)),
        "sha1" => |text| digest(&SHA1_FOR_LEGACY_USE_ONLY, text),
        "sha256" => |text| oci::Digest::of(text).hex().to_owned(),
        "sha512" => |text| digest(&SHA512, text),
        _ => return None,
    };
    Some(text_at(arguments, 0).map(|text| made(&text).into()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest(algorithm: &'static aws_lc_rs::digest::Algorithm, text: &str) -> String {
    hex(aws_lc_rs::digest::digest(algorithm, text.as_bytes()).as_ref())
}
