//! The value semantics of SPARQL 1.1: operators, functions, casts, ordering and aggregates over RDF terms.
//!
//! Everything here works on one [`Value`] at a time and knows nothing about solutions or plans.
//! An expression error of the standard is `None` everywhere.

mod aggregate;
mod arithmetic;
mod calendar;
mod calendar_cast;
mod cast;
mod compare;
mod datatype;
mod dates;
mod decimal;
mod duration;
mod functions;
mod hashes;
mod lexical;
mod numbers;
mod numeric;
mod order;
mod pattern;
mod replacement;
mod strings;
mod terms;
mod value;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;

pub use aggregate::{GroupConcat, Sum};
pub use arithmetic::{add, divide, multiply, subtract, unary_minus, unary_plus};
pub use cast::cast;
pub use compare::{effective_boolean, equals, less_than, less_than_or_equal};
pub use datatype::Datatype;
pub use functions::{Function, call};
pub use order::sort_key;
pub use strings::{LONGEST, TooLong};
pub use value::Value;
