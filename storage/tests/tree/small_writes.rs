//! Many one-row commits.

use pyralog_storage::PartitionOptions;

use crate::harness::{Store, read};

#[test]
fn many_small_commits_make_few_batches() {
    const COUNT: i64 = 20_000;
    let mut store = Store::new(PartitionOptions::default());
    for i in 0..COUNT {
        store.put([(i.wrapping_mul(7919) % COUNT, "x")]);
    }
    let view = store.view(None);
    let batches: usize = view.pieces().iter().map(|piece| piece.batch_count()).sum();
    assert!(batches <= (COUNT as usize / 8192) * 2 + 16, "{batches} batches");
    assert_eq!(read(&view).len(), COUNT as usize);
}
