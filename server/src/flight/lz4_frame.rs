//! How large an LZ4 frame can become, read from its block headers without decompressing anything.
//!
//! The decoder grows its output for as long as the frame goes on, whatever length the message around it claims.
//!
//! ```text
//! frame   magic 04224D18 | FLG | BD | [content size u64] | [dictionary id u32] | header checksum u8 | block… | end mark u32 0 | [checksum u32]
//! block   size u32, top bit: stored as it is | bytes | [checksum u32]
//! ```
//! Source: the LZ4 Frame Format Description, version 1.6.

const MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
const BLOCK_CHECKSUM: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;
const DICTIONARY_ID: u8 = 1;

/// An upper bound in bytes of what the frames in `data` decompress to; `None` if they are no well-formed frames.
pub fn decompressed_bound(mut data: &[u8]) -> Option<u64> {
    let mut total = 0_u64;
    while !data.is_empty() {
        let (bound, rest) = frame(data)?;
        total = total.checked_add(bound)?;
        data = rest;
    }
    Some(total)
}

/// The bound of the first frame, and what follows it.
fn frame(data: &[u8]) -> Option<(u64, &[u8])> {
    let data = data.strip_prefix(&MAGIC)?;
    let (&flags, data) = data.split_first()?;
    let (&descriptor, data) = data.split_first()?;
    if flags >> 6 != 1 {
        return None;
    }
    let block_bytes = match (descriptor >> 4) & 7 {
        4 => 64 << 10,
        5 => 256 << 10,
        6 => 1 << 20,
        7 => 4 << 20,
        _ => return None,
    };
    let options = if flags & CONTENT_SIZE != 0 { 8 } else { 0 } + if flags & DICTIONARY_ID != 0 { 4 } else { 0 };
    let mut data = data.get(options + 1..)?;
    let mut bound = 0_u64;
    loop {
        let (size, rest) = data.split_first_chunk::<4>()?;
        let size = u32::from_le_bytes(*size);
        if size == 0 {
            let checksum = if flags & CONTENT_CHECKSUM != 0 { 4 } else { 0 };
            return Some((bound, rest.get(checksum..)?));
        }
        let stored = size & 0x7fff_ffff;
        bound += if size >> 31 == 1 { u64::from(stored) } else { block_bytes };
        let checksum = if flags & BLOCK_CHECKSUM != 0 { 4 } else { 0 };
        data = rest.get(usize::try_from(stored).ok()?.checked_add(checksum)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of blocks with the given size words and bytes.
    fn frame_of(flags: u8, blocks: &[(u32, usize)]) -> Vec<u8> {
        let mut frame = MAGIC.to_vec();
        frame.extend_from_slice(&[0b0100_0000 | flags, 4 << 4, 0]);
        for (size, bytes) in blocks {
            frame.extend_from_slice(&size.to_le_bytes());
            frame.extend(std::iter::repeat_n(0, *bytes));
        }
        frame.extend_from_slice(&[0; 4]);
        frame
    }

    #[test]
    fn bounds() {
        assert_eq!(decompressed_bound(&frame_of(0, &[])), Some(0));
        assert_eq!(decompressed_bound(&frame_of(0, &[(10, 10), (20, 20)])), Some(2 * (64 << 10)));
        assert_eq!(decompressed_bound(&frame_of(0, &[(0x8000_0005, 5)])), Some(5));
        assert_eq!(decompressed_bound(&frame_of(BLOCK_CHECKSUM, &[(10, 14)])), Some(64 << 10));
        let two = [frame_of(0, &[(1, 1)]), frame_of(0, &[(1, 1)])].concat();
        assert_eq!(decompressed_bound(&two), Some(128 << 10));
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = frame_of(0, &[(10, 10), (20, 20)]);
        for cut in 1..whole.len() {
            assert_eq!(decompressed_bound(&whole[..cut]), None, "{cut} bytes");
        }
        assert_eq!(decompressed_bound(&frame_of(0, &[(0x7fff_ffff, 3)])), None);
    }
}
