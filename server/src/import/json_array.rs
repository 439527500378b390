//! Takes the brackets off an array of objects, as the text streams through: `[{…},{…}]` reads as `{…} {…}`.
//!
//! Text that does not begin with `[` passes as it is. Only depth and strings are followed; whether the text is JSON the reader behind finds.

use std::io::{BufRead, Read};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Only blanks so far.
    Unknown,
    /// Values one behind the other.
    Plain,
    /// Within the outer array.
    Array,
    /// Behind the outer array: only blanks may follow.
    Ended,
}

/// A reader over JSON text without its outer brackets.
pub struct ArrayUnwrap<R> {
    inner: R,
    shape: Shape,
    depth: u64,
    in_string: bool,
    escaped: bool,
}

impl<R: BufRead> ArrayUnwrap<R> {
    /// Reads through `inner`.
    pub fn new(inner: R) -> Self {
        ArrayUnwrap {
            inner,
            shape: Shape::Unknown,
            depth: 0,
            in_string: false,
            escaped: false,
        }
    }

    /// What stands in the place of a byte.
    fn pass(&mut self, byte: u8) -> Result<u8, &'static str> {
        match self.shape {
            Shape::Plain => return Ok(byte),
            Shape::Ended => {
                return if byte.is_ascii_whitespace() {
                    Ok(byte)
                } else {
                    Err("there is text behind the array")
                };
            }
            Shape::Unknown if byte == b'[' => {
                self.shape = Shape::Array;
                return Ok(b' ');
            }
            // A byte order mark, or a blank.
            Shape::Unknown if matches!(byte, 0xef | 0xbb | 0xbf) || byte.is_ascii_whitespace() => return Ok(b' '),
            Shape::Unknown => {
                self.shape = Shape::Plain;
                return Ok(byte);
            }
            Shape::Array => {}
        }
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Ok(byte);
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b']' if self.depth == 0 => {
                self.shape = Shape::Ended;
                return Ok(b'\n');
            }
            b'}' | b']' => self.depth = self.depth.checked_sub(1).ok_or("a bracket is closed that was not opened")?,
            b',' if self.depth == 0 => return Ok(b'\n'),
            _ => {}
        }
        Ok(byte)
    }
}

impl<R: BufRead> Read for ArrayUnwrap<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        for byte in &mut buffer[..read] {
            *byte = self.pass(*byte).map_err(std::io::Error::other)?;
        }
        if read == 0 && !buffer.is_empty() && self.shape == Shape::Array {
            return Err(std::io::Error::other("the array is not closed: the file is cut off"));
        }
        Ok(read)
    }
}
