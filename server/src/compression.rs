//! Files compressed as their names say.

use std::io::{self, Read, Write};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// `.gz`
    Gzip,
    /// `.zst`, `.zstd`
    Zstd,
}

impl Compression {
    /// What a file's name says, and the name without that.
    pub fn of_path(path: &Path) -> (Self, &Path) {
        let compression = match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => Compression::Gzip,
            Some("zst" | "zstd") => Compression::Zstd,
            _ => return (Compression::None, path),
        };
        (compression, path.file_stem().map_or(path, Path::new))
    }

    /// Reads what is compressed so.
    pub fn decode(self, input: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Compression::None => Box::new(input),
            Compression::Gzip => Box::new(MultiGzDecoder::new(input)),
            Compression::Zstd => Box::new(zstd::Decoder::new(input)?),
        })
    }

    /// Writes compressed so.
    pub fn encode<W: Write>(self, output: W) -> io::Result<Compressed<W>> {
        Ok(match self {
            Compression::None => Compressed::Plain(output),
            Compression::Gzip => Compressed::Gzip(GzEncoder::new(output, flate2::Compression::default())),
            Compression::Zstd => Compressed::Zstd(zstd::Encoder::new(output, zstd::DEFAULT_COMPRESSION_LEVEL)?),
        })
    }
}

/// A file being written. It is whole only after [`Compressed::finish`].
pub enum Compressed<W: Write> {
    /// As it is.
    Plain(W),
    /// gzip
    Gzip(GzEncoder<W>),
    /// Zstandard
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Compressed<W> {
    /// Writes the end.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Compressed::Plain(output) => Ok(output),
            Compressed::Gzip(encoder) => encoder.finish(),
            Compressed::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Compressed::Plain(output) => output.write(bytes),
            Compressed::Gzip(encoder) => encoder.write(bytes),
            Compressed::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Compressed::Plain(output) => output.flush(),
            Compressed::Gzip(encoder) => encoder.flush(),
            Compressed::Zstd(encoder) => encoder.flush(),
        }
    }
}
