//! HyperLogLog sketches.

/// A HyperLogLog sketch (Flajolet et al. 2007) of one column's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistinctSketch {}

impl DistinctSketch {
    /// Takes in what `other` has seen.
    pub fn merge(&mut self, _other: &DistinctSketch) {
        todo!()
    }

    /// The estimated number of distinct values.
    pub fn estimate(&self) -> u64 {
        todo!()
    }
}
