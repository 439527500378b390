//! What a data group stores with its applied position: the Raft position, then, if there are any, the requests that were carried out, then
//! the transactions over several groups, then the ceilings of promises.

use std::io;

use bytes::{Bytes, BytesMut};
use pyralog_storage::AppliedPayload;

use super::journaled::View;
use super::position::Position;
use super::promises::Ceilings;
use super::{requests, transactions};
use crate::codec::{self, CodecError};

/// The payload of one applied entry.
#[derive(Debug)]
pub struct Applied {
    /// Where.
    pub position: Position,
    /// The requests up to there.
    pub requests: View<requests::Table>,
    /// The transactions over several groups up to there.
    pub transactions: View<transactions::Table>,
    /// The ceilings up to there.
    pub ceilings: Ceilings,
}

impl AppliedPayload for Applied {
    fn encode(&self) -> io::Result<Bytes> {
        let mut bytes = BytesMut::from(&codec::encode(&self.position).map_err(io::Error::other)?[..]);
        let (requests, transactions) = (self.requests.table(), self.transactions.table());
        let has_ceilings = self.ceilings != Ceilings::default();
        let has_transactions = has_ceilings || transactions != transactions::Table::default();
        if has_transactions || requests != requests::Table::default() {
            bytes.extend_from_slice(&codec::encode(&requests).map_err(io::Error::other)?);
        }
        if has_transactions {
            bytes.extend_from_slice(&codec::encode(&transactions).map_err(io::Error::other)?);
        }
        if has_ceilings {
            bytes.extend_from_slice(&codec::encode(&self.ceilings).map_err(io::Error::other)?);
        }
        Ok(bytes.freeze())
    }
}

/// What a payload holds.
#[derive(Debug, Default)]
pub struct Parts {
    /// The Raft position.
    pub position: Position,
    /// The requests that were carried out.
    pub requests: requests::Table,
    /// The transactions over several groups.
    pub transactions: transactions::Table,
    /// The ceilings of promises.
    pub ceilings: Ceilings,
}

/// Takes a payload apart.
pub fn decode(bytes: &[u8]) -> Result<Parts, CodecError> {
    let (position, rest) = codec::decode_first(bytes)?;
    let (requests, rest) = match rest {
        [] => Default::default(),
        rest => codec::decode_first(rest)?,
    };
    let (transactions, rest) = match rest {
        [] => Default::default(),
        rest => codec::decode_first(rest)?,
    };
    let ceilings = match rest {
        [] => Ceilings::default(),
        rest => codec::decode(rest)?,
    };
    Ok(Parts {
        position,
        requests,
        transactions,
        ceilings,
    })
}
