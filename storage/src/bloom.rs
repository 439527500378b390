//! Split block bloom filters (Putze, Sanders, Singler 2007; the layout of Parquet's): a key sets one bit in each of the eight 32-bit words
//! of a single 32-byte block, so that a probe touches one cache line.
//!
//! A filter covers the keys of one record batch. It is a plain byte string: blocks of eight little-endian words.

use crate::file::le_u32;

const BLOCK: usize = 32;
const BITS_PER_KEY: usize = 10;
const SALT: [u32; 8] = [
    0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31,
];

/// A filter that contains `hashes`. About one in a hundred other hashes seems contained too.
pub fn build(hashes: &[u64]) -> Vec<u8> {
    let blocks = (hashes.len() * BITS_PER_KEY).div_ceil(BLOCK * 8).max(1);
    let mut words = vec![[0u32; 8]; blocks];
    for &hash in hashes {
        let block = &mut words[block_index(hash, blocks)];
        for (word, bit) in block.iter_mut().zip(bits(hash)) {
            *word |= bit;
        }
    }
    words.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
}

/// Whether `filter` may contain `hash`; never `false` for a contained one. A byte string that is no filter contains everything.
pub fn may_contain(filter: &[u8], hash: u64) -> bool {
    let blocks = filter.len() / BLOCK;
    if blocks == 0 {
        return true;
    }
    let start = block_index(hash, blocks) * BLOCK;
    let block = &filter[start..start + BLOCK];
    block.chunks_exact(4).zip(bits(hash)).all(|(word, bit)| le_u32(word) & bit != 0)
}

/// The upper half of the hash chooses the block.
fn block_index(hash: u64, blocks: usize) -> usize {
    (((hash >> 32) * blocks as u64) >> 32) as usize
}

/// The lower half of the hash chooses one bit in each word.
fn bits(hash: u64) -> impl Iterator<Item = u32> {
    SALT.iter().map(move |salt| 1u32 << ((hash as u32).wrapping_mul(*salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::key_hash;

    #[test]
    fn contains_what_was_put_in_and_little_else() {
        for count in [1u64, 100, 8192] {
            let hashes: Vec<u64> = (0..count).map(|n| key_hash(&n.to_be_bytes())).collect();
            let filter = build(&hashes);
            assert!(hashes.iter().all(|&hash| may_contain(&filter, hash)));
            let wrong = (1_000_000..1_020_000u64)
                .filter(|n| may_contain(&filter, key_hash(&n.to_be_bytes())))
                .count();
            assert!(wrong < 500, "{wrong} of 20000 false positives with {count} keys");
        }
    }

    #[test]
    fn bytes_that_are_no_filter_exclude_nothing() {
        assert!(may_contain(&[], 1));
        assert!(may_contain(&[0; 31], 1));
    }
}
