//! The set functions of section 18.5.1 that compute; the others choose or count.
//!
//! Each takes the value of its expression for one solution after the other, where `None` is an error or an unbound variable.

use super::arithmetic;
use super::value::Value;

/// `SUM`: 0 for an empty group, `None` when one value is no number or the sum overflows.
#[derive(Debug, Clone)]
pub struct Sum(Option<Value>);

impl Default for Sum {
    fn default() -> Self {
        Self(Some(Value::Integer(0.into())))
    }
}

impl Sum {
    /// Adds one value.
    pub fn add(&mut self, value: Option<&Value>) {
        // An error stays, whatever follows.
        self.0 = self.0.take().and_then(|sum| arithmetic::add(&sum, value?));
    }

    /// The sum, or `None` for an error.
    pub fn finish(self) -> Option<Value> {
        self.0
    }

    /// `AVG` of as many values: 0 for an empty group, `None` for an error.
    pub fn average(self, count: i64) -> Option<Value> {
        let sum = self.finish()?;
        match count {
            // The standard gives the integer 0 here, and not the decimal a division would give.
            0 => Some(sum),
            count => arithmetic::divide(&sum, &Value::Integer(count.into())),
        }
    }
}

/// `GROUP_CONCAT`: the empty string for an empty group, `None` when one value is an error or a blank node.
#[derive(Debug, Clone)]
pub struct GroupConcat {
    text: Option<String>,
    separator: String,
    started: bool,
}

impl Default for GroupConcat {
    fn default() -> Self {
        Self::new(" ")
    }
}

impl GroupConcat {
    /// Starts with a separator, which is one space unless the query names another.
    pub fn new(separator: impl Into<String>) -> Self {
        Self {
            text: Some(String::new()),
            separator: separator.into(),
            started: false,
        }
    }

    /// Adds one value, as `STR` gives it.
    pub fn add(&mut self, value: Option<&Value>) {
        let string = value.and_then(super::terms::str);
        let (Some(text), Some(Value::String(string))) = (&mut self.text, string) else {
            self.text = None;
            return;
        };
        if self.started {
            text.push_str(&self.separator);
        }
        text.push_str(&string);
        self.started = true;
    }

    /// Bytes of the text so far.
    pub fn bytes(&self) -> usize {
        self.text.as_ref().map_or(0, String::capacity)
    }

    /// The strings with the separator between them, always a simple literal, or `None` for an error.
    pub fn finish(self) -> Option<Value> {
        self.text.map(Value::String)
    }
}
