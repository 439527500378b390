//! Opaque handles of the protocol: tickets, prepared statements, transactions.
//!
//! ```text
//! byte 0      version, 1
//! byte 1      kind: what table the id belongs to
//! byte 2..18  id, a random UUID
//! ```

use bytes::Bytes;
use tonic::Status;
use uuid::Uuid;

const VERSION: u8 = 1;
/// Bytes of a handle.
pub const LENGTH: usize = 18;

/// What a handle stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A query whose rows can be read.
    Query = 1,
    /// A prepared statement.
    Prepared = 2,
    /// A transaction.
    Transaction = 3,
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Kind::Query => "ticket",
            Kind::Prepared => "prepared statement handle",
            Kind::Transaction => "transaction id",
        }
    }
}

/// A handle's bytes.
pub fn encode(kind: Kind, id: Uuid) -> Bytes {
    let mut bytes = Vec::with_capacity(LENGTH);
    bytes.extend_from_slice(&[VERSION, kind as u8]);
    bytes.extend_from_slice(id.as_bytes());
    bytes.into()
}

/// The id in a handle of the given kind. Errors with `InvalidArgument`.
pub fn decode(kind: Kind, bytes: &[u8]) -> Result<Uuid, Status> {
    match bytes {
        [VERSION, found, id @ ..] if *found == kind as u8 && id.len() == 16 => {
            Uuid::from_slice(id).map_err(|_| Status::invalid_argument(format!("not a {} of this server", kind.noun())))
        }
        _ => Err(Status::invalid_argument(format!("not a {} of this server", kind.noun()))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let id = Uuid::new_v4();
        assert_eq!(decode(Kind::Prepared, &encode(Kind::Prepared, id)).unwrap(), id);
    }

    #[test]
    fn anything_else_is_refused() {
        let good = encode(Kind::Query, Uuid::new_v4());
        assert!(decode(Kind::Transaction, &good).is_err(), "another kind");
        for cut in 0..good.len() {
            assert!(decode(Kind::Query, &good[..cut]).is_err(), "{cut} bytes");
        }
        let mut newer = good.to_vec();
        newer[0] = 2;
        assert!(decode(Kind::Query, &newer).is_err(), "another version");
        newer[0] = 1;
        newer.push(0);
        assert!(decode(Kind::Query, &newer).is_err(), "too long");
    }
}
