//! Cold batches are walked once.

use super::store::{mixed, run};
use crate::scan::residency::Residency;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_leaves_its_columns_resident() {
    let store = mixed(1);
    let pieces = store.views()[0].pieces().to_vec();
    let segments: Vec<_> = pieces.iter().filter(|p| p.zone_maps().is_some()).collect();
    assert!(segments.len() >= 2 && segments.len() < pieces.len());
    let all_resident = |column: usize| {
        segments.iter().all(|p| {
            let residency = Residency::of(p).expect("a segment has a record");
            (0..p.batch_count()).all(|batch| residency.is_resident(batch, &[column]))
        })
    };
    assert!(!all_resident(0) && !all_resident(2));
    run(
        &store.context(),
        "SELECT count(*) FROM (SELECT id FROM t LIMIT 100000) WHERE id % 2 = 1",
    )
    .await;
    assert!(all_resident(0) && !all_resident(2));
    run(&store.context(), "SELECT name FROM t").await;
    assert!(all_resident(2));
    assert!(
        pieces
            .iter()
            .filter(|p| p.zone_maps().is_none())
            .all(|p| Residency::of(p).is_none())
    );
}

#[tokio::test]
async fn the_record_is_shared_by_snapshots() {
    let store = mixed(1);
    let (first, second) = (store.views()[0].pieces()[0].clone(), store.views()[0].pieces()[0].clone());
    Residency::of(&first).unwrap().walk(&first, 0, &[0, 3]).unwrap();
    let seen = Residency::of(&second).unwrap();
    assert!(seen.is_resident(0, &[3]) && !seen.is_resident(0, &[1]) && !seen.is_resident(1, &[3]));
}
