//! The session actions: SetSessionOptions, GetSessionOptions, CloseSession.
//!
//! Their messages are not in arrow-flight; they follow `Flight.proto` of Apache Arrow. Unlike Flight SQL's, they are not wrapped in `Any`.

use std::collections::HashMap;

use tonic::Status;

use super::caller::Caller;
use super::metadata::CATALOG;
use super::state::State;
use super::status;

/// A value of an option.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionOptionValue {
    /// The value; none asks to unset the option.
    #[prost(oneof = "OptionValue", tags = "1, 2, 3, 4, 5")]
    pub option_value: Option<OptionValue>,
}

/// The types of values.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum OptionValue {
    /// Text.
    #[prost(string, tag = "1")]
    Text(String),
    /// A truth value.
    #[prost(bool, tag = "2")]
    Bool(bool),
    /// An integer.
    #[prost(sfixed64, tag = "3")]
    Int(i64),
    /// A number.
    #[prost(double, tag = "4")]
    Double(f64),
    /// A list of texts.
    #[prost(message, tag = "5")]
    List(StringList),
}

/// A list of texts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StringList {
    /// The texts.
    #[prost(string, repeated, tag = "1")]
    pub values: Vec<String>,
}

/// Sets options.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetSessionOptionsRequest {
    /// Values by name.
    #[prost(map = "string, message", tag = "1")]
    pub session_options: HashMap<String, SessionOptionValue>,
}

/// What could not be set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetSessionOptionsResult {
    /// Errors by option name; empty if all went well.
    #[prost(map = "string, message", tag = "1")]
    pub errors: HashMap<String, OptionError>,
}

/// Why an option could not be set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OptionError {
    /// One of [`ErrorValue`].
    #[prost(enumeration = "ErrorValue", tag = "1")]
    pub value: i32,
}

/// Reasons for not setting an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ErrorValue {
    /// Unknown.
    Unspecified = 0,
    /// There is no such option.
    InvalidName = 1,
    /// The option cannot have this value.
    InvalidValue = 2,
    /// It failed.
    Error = 3,
}

/// The options of the session.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetSessionOptionsResult {
    /// Values by name.
    #[prost(map = "string, message", tag = "1")]
    pub session_options: HashMap<String, SessionOptionValue>,
}

/// The outcome of closing a session.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct CloseSessionResult {
    /// One of [`CloseStatus`].
    #[prost(enumeration = "CloseStatus", tag = "1")]
    pub status: i32,
}

/// States of a session that is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum CloseStatus {
    /// Unknown.
    Unspecified = 0,
    /// It is closed.
    Closed = 1,
    /// It is being closed.
    Closing = 2,
    /// It cannot be closed.
    NotCloseable = 3,
}

impl State {
    /// Sets options in the caller's session, which is made if there is none.
    pub fn set_options(&self, caller: &Caller, request: SetSessionOptionsRequest) -> Result<SetSessionOptionsResult, Status> {
        let slot = self.kept_session(caller)?;
        let mut errors = HashMap::new();
        for (name, value) in request.session_options {
            if let Err(reason) = set(&slot, &name, value) {
                errors.insert(name, OptionError { value: reason as i32 });
            }
        }
        Ok(SetSessionOptionsResult { errors })
    }

    /// The options that were set in the caller's session, and its catalog and schema.
    pub fn get_options(&self, caller: &Caller) -> Result<GetSessionOptionsResult, Status> {
        let slot = self.lease(caller, None)?.slot;
        let mut options = slot.options.lock().clone();
        options.entry("catalog".into()).or_insert_with(|| CATALOG.into());
        if let Some(session) = slot.used_session()
            && !options.contains_key("schema")
        {
            let schema = session.setting("schema").map_err(|error| status::from_error(&error))?;
            options.insert("schema".into(), schema);
        }
        let value = |text| SessionOptionValue {
            option_value: Some(OptionValue::Text(text)),
        };
        Ok(GetSessionOptionsResult {
            session_options: options.into_iter().map(|(name, text)| (name, value(text))).collect(),
        })
    }
}

/// Sets one option.
fn set(slot: &super::slot::Slot, name: &str, value: SessionOptionValue) -> Result<(), ErrorValue> {
    let text = text(value).ok_or(ErrorValue::InvalidValue)?;
    if name == "catalog" {
        return if text == CATALOG { Ok(()) } else { Err(ErrorValue::InvalidValue) };
    }
    // One error tells an unknown name from a bad value: whether the setting can be read.
    let session = slot.session();
    session.set(name, &text).map_err(|_| match session.setting(name) {
        Ok(_) => ErrorValue::InvalidValue,
        Err(_) => ErrorValue::InvalidName,
    })?;
    slot.options.lock().insert(name.to_string(), text);
    Ok(())
}

/// A value as settings take it; `None` for a request to unset.
fn text(value: SessionOptionValue) -> Option<String> {
    Some(match value.option_value? {
        OptionValue::Text(text) => text,
        OptionValue::Bool(value) => value.to_string(),
        OptionValue::Int(value) => value.to_string(),
        OptionValue::Double(value) => value.to_string(),
        OptionValue::List(list) => list.values.join(","),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn the_messages_are_those_of_flight_proto() {
        // SetSessionOptionsRequest {"k": 7 as sfixed64}, by hand: entry 0x0a, key 0x0a, value 0x12, sfixed64 tag 3 = 0x19.
        let bytes = [0x0a, 0x0e, 0x0a, 0x01, b'k', 0x12, 0x09, 0x19, 7, 0, 0, 0, 0, 0, 0, 0];
        let request = SetSessionOptionsRequest::decode(&bytes[..]).unwrap();
        assert_eq!(request.session_options["k"].option_value, Some(OptionValue::Int(7)));
        assert_eq!(request.encode_to_vec(), bytes);
        let list = StringList {
            values: vec!["a".into(), "b".into()],
        };
        assert_eq!(
            text(SessionOptionValue {
                option_value: Some(OptionValue::List(list))
            }),
            Some("a,b".into())
        );
        assert_eq!(text(SessionOptionValue { option_value: None }), None);
    }
}
