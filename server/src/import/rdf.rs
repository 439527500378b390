//! RDF in its syntaxes: the text goes to the database as it is, which parses it.

use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use pyralog_models::{Error, ErrorKind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Bytes of a piece of text.
const PIECE: usize = 1 << 20;
/// Pieces that wait between reader and load.
const PIECES_IN_FLIGHT: usize = 4;

/// A text piece by piece, read by a blocking thread, which waits while the load is behind. Dropping the stream ends it.
pub fn pieces(mut input: Box<dyn Read + Send>) -> BoxStream<'static, Result<Bytes, Error>> {
    let (sender, pieces) = mpsc::channel(PIECES_IN_FLIGHT);
    let reader = tokio::task::spawn_blocking(move || {
        loop {
            let piece = match read_piece(&mut input) {
                Ok(piece) if piece.is_empty() => break,
                piece => piece.map_err(|error| Error::new(ErrorKind::InvalidInput, "58030", error.to_string())),
            };
            let has_failed = piece.is_err();
            if sender.blocking_send(piece).is_err() || has_failed {
                break;
            }
        }
    });
    // A decoder that panics on a damaged file must not look like its end.
    let ended = futures::stream::once(reader).filter_map(|ended| async move {
        let error = ended.err()?;
        Some(Err(Error::new(ErrorKind::Internal, "XX000", format!("cannot be read: {error}"))))
    });
    ReceiverStream::new(pieces).chain(ended).boxed()
}

/// As much as there is, up to a piece.
fn read_piece(input: &mut dyn Read) -> io::Result<Bytes> {
    let mut piece = Vec::with_capacity(PIECE);
    input.take(PIECE as u64).read_to_end(&mut piece)?;
    Ok(piece.into())
}

/// The IRI of a file, against which relative ones in it are resolved.
pub fn file_iri(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let text = path.to_str()?;
    let escaped = percent_encoding::utf8_percent_encode(text, PATH);
    Some(format!("file://{escaped}"))
}

/// What stands for itself in the path of an IRI.
const PATH: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
