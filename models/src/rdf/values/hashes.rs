//! Hash functions, which take a simple literal and give lower case hexadecimal digits.

use super::value::Value;
use md5::Digest;
use std::fmt::Write;

/// `MD5`; `None` unless given a simple literal.
pub(super) fn md5(value: &Value) -> Option<Value> {
    hash::<md5::Md5>(value)
}

/// `SHA1`; `None` unless given a simple literal.
pub(super) fn sha1(value: &Value) -> Option<Value> {
    hash::<sha1::Sha1>(value)
}

/// `SHA256`; `None` unless given a simple literal.
pub(super) fn sha256(value: &Value) -> Option<Value> {
    hash::<sha2::Sha256>(value)
}

/// `SHA384`; `None` unless given a simple literal.
pub(super) fn sha384(value: &Value) -> Option<Value> {
    hash::<sha2::Sha384>(value)
}

/// `SHA512`; `None` unless given a simple literal.
pub(super) fn sha512(value: &Value) -> Option<Value> {
    hash::<sha2::Sha512>(value)
}

fn hash<D: Digest>(value: &Value) -> Option<Value> {
    let Value::String(text) = value else {
        return None;
    };
    let mut digits = String::with_capacity(128);
    for byte in D::digest(text.as_bytes()).iter() {
        write!(digits, "{byte:02x}").ok()?;
    }
    Some(Value::String(digits))
}
