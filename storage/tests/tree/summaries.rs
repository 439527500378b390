//! What a view tells of itself without reading rows.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;

use crate::harness::{Store, TABLE, rows, small_options};

#[test]
fn summaries_are_exact_only_when_they_are() {
    let mut store = Store::new(small_options());
    let empty = store.view(None).column_summary(0);
    assert!(empty.exact && empty.min.is_none() && empty.null_count == Some(0));
    store.put([(-50, "x")]);
    let unknown = store.view(None).column_summary(0);
    assert!(!unknown.exact && unknown.min.is_none() && unknown.null_count.is_none());
    store.put((1..100).map(|i| (i * 3 - 50, "x")));
    store.partition.flush().unwrap();
    store.put((100..150).map(|i| (i * 3 - 50, "x")));
    store.partition.flush().unwrap();
    let view = store.view(None);
    let summary = view.column_summary(0);
    let bound = |array: &Option<arrow_array::ArrayRef>| array.as_ref().unwrap().as_primitive::<Int64Type>().value(0);
    assert!(summary.exact);
    assert_eq!(
        (bound(&summary.min), bound(&summary.max), summary.null_count),
        (-50, 149 * 3 - 50, Some(0))
    );
    assert!(
        summary.distinct.is_some_and(|distinct| (140..=150).contains(&distinct)),
        "{:?}",
        summary.distinct
    );
    assert!(view.column_summary(1).distinct.is_some_and(|distinct| distinct == 1));
    assert!(view.column_summary(99).min.is_none());
    assert!(view.byte_size() > 0);
    store.delete([-50]);
    let summary = store.view(None).column_summary(0);
    assert!(!summary.exact && bound(&summary.min) == -50);
    let mut transaction = store.begin();
    transaction.put(TABLE, &rows([(-1000, "own")])).unwrap();
    let view = transaction.view(TABLE).unwrap();
    assert!(view.column_summary(0).min.is_none());
    assert_eq!(view.row_count(), 150);
}
