//! What a data group stores with its applied position: the Raft position, then, if there are any, the requests that were carried out.

use std::io;

use bytes::{Bytes, BytesMut};
use pyralog_storage::AppliedPayload;

use super::position::Position;
use super::requests::{RequestsView, Table};
use crate::codec::{self, CodecError};

/// The payload of one applied entry.
#[derive(Debug)]
pub struct Applied {
    /// Where.
    pub position: Position,
    /// The requests up to there.
    pub requests: RequestsView,
}

impl AppliedPayload for Applied {
    fn encode(&self) -> io::Result<Bytes> {
        let position = codec::encode(&self.position).map_err(io::Error::other)?;
        let table = self.requests.table();
        if table == Table::default() {
            return Ok(position);
        }
        let table = codec::encode(&table).map_err(io::Error::other)?;
        let mut bytes = BytesMut::with_capacity(position.len() + table.len());
        bytes.extend_from_slice(&position);
        bytes.extend_from_slice(&table);
        Ok(bytes.freeze())
    }
}

/// Takes a payload apart.
pub fn decode(bytes: &[u8]) -> Result<(Position, Table), CodecError> {
    match codec::decode_first(bytes)? {
        (position, []) => Ok((position, Table::default())),
        (position, rest) => Ok((position, codec::decode(rest)?)),
    }
}
