use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_ipc::reader::FileReader;
use arrow_select::concat::concat_batches;

use super::*;

#[test]
fn rows_come_back_whatever_the_batch_sizes() {
    let rows = wide_rows(0, 100);
    let all: Vec<usize> = (0..rows.num_columns()).collect();
    let sizes = [(10, 100), (100, 10), (7, 13), (13, 7), (1000, 1), (1, 100)];
    let schemas = [wide_relation(&rows), wide_relation(&rows).compressed()];
    for (schema, (batch_rows, piece)) in schemas.into_iter().flat_map(|schema| sizes.map(|sizes| (schema.clone(), sizes))) {
        let dir = tempfile::tempdir().unwrap();
        let info = write_segment(dir.path(), &schema, &rows, None, batch_rows, piece).unwrap();
        let segment = Segment::open(dir.path(), info, Some(Timestamp(5))).unwrap();
        assert_eq!(segment.batch_count(), 100usize.div_ceil(batch_rows));
        let back = read_all(&segment, &schema, &all).unwrap();
        let back = concat_batches(&back[0].schema(), &back).unwrap();
        assert_eq!(back.columns(), rows.columns());
        assert_eq!(back.schema().fields(), schema.schema.fields());
        segment.verify().unwrap();
    }
}

#[test]
fn compressed_segments_are_smaller_and_say_their_format() {
    let rows = wide_rows(0, 5000);
    let dir = tempfile::tempdir().unwrap();
    let plain = write_segment(dir.path(), &wide_relation(&rows), &rows, None, 1000, 5000).unwrap();
    let schema = wide_relation(&rows).compressed().with_batch_rows(500);
    let info = write_segment(dir.path(), &schema, &rows, None, 1000, 5000).unwrap();
    assert!(info.bytes * 3 < plain.bytes, "{} bytes, plain {}", info.bytes, plain.bytes);
    let file = FileReader::try_new(std::fs::File::open(segment_path(dir.path(), info.id)).unwrap(), None).unwrap();
    assert_eq!(file.custom_metadata()["pyralog.format"], "2");
    assert_eq!(file.num_batches(), 10);
    let back: Vec<RecordBatch> = file.map(|batch| batch.unwrap()).collect();
    assert_eq!(concat_batches(&back[0].schema(), &back).unwrap().columns(), rows.columns());
    let segment = Segment::open(dir.path(), info, Some(Timestamp(5))).unwrap();
    let encoder = KeyEncoder::new(&schema).unwrap();
    let keys = encoder
        .encode(&[Arc::new(Int64Array::from(vec![0, 4998, 9998, 3, 10_000]))])
        .unwrap();
    let found: Vec<_> = keys
        .iter()
        .map(|key| segment.find(key.data(), crate::key::key_hash(key.data()), &encoder).unwrap())
        .collect();
    assert_eq!(found[..3], [0..1, 2499..2500, 4999..5000]);
    assert!(found[3..].iter().all(|found| found.is_empty()));
}

#[test]
fn slices_of_larger_arrays_write_only_their_own_rows() {
    let rows = wide_rows(0, 5000);
    let schema = wide_relation(&rows);
    let dir = tempfile::tempdir().unwrap();
    let part = rows.slice(4001, 20);
    let info = write_segment(dir.path(), &schema, &part, None, 8192, 20).unwrap();
    assert!(info.bytes < 40_000, "{} bytes", info.bytes);
    let segment = Segment::open(dir.path(), info, Some(Timestamp(5))).unwrap();
    let all: Vec<usize> = (0..schema.schema.fields().len()).collect();
    assert_eq!(segment.read(0, &schema, &all).unwrap().columns(), part.columns());
}

#[test]
fn timestamps_come_from_their_column_or_are_uniform() {
    let (schema, rows) = relation(vec![("k", Arc::new(Int64Array::from(vec![1, 1, 2])))], vec![0]);
    let ts = UInt64Array::from(vec![9, 4, 7]);
    let dir = tempfile::tempdir().unwrap();
    let info = write_segment(dir.path(), &schema, &rows, Some(&ts), 2, 3).unwrap();
    assert_eq!((info.min_ts, info.max_ts, info.timestamps), (Timestamp(4), Timestamp(9), true));
    let segment = Segment::open(dir.path(), info, None).unwrap();
    assert_eq!(segment.timestamps(0).unwrap().at(1), Timestamp(4));
    assert_eq!(
        (segment.batch_max_timestamp(1), segment.max_timestamp()),
        (Timestamp(7), Timestamp(9))
    );
    let read = segment.read(0, &schema, &[schema.timestamp_column(), 0]).unwrap();
    assert_eq!(read.column(0).as_primitive::<UInt64Type>().values(), &[9, 4]);
    assert_eq!(read.column(1).as_primitive::<Int64Type>().values(), &[1, 1]);

    let dir = tempfile::tempdir().unwrap();
    let info = write_segment(dir.path(), &schema, &rows.slice(1, 2), None, 2, 3).unwrap();
    assert_eq!(
        (info.min_ts, info.max_ts, info.timestamps),
        (Timestamp::ZERO, Timestamp::ZERO, false)
    );
    let segment = Segment::open(dir.path(), info, Some(Timestamp(33))).unwrap();
    let read = segment.read(0, &schema, &[1]).unwrap();
    assert_eq!(
        read.column_by_name(TIMESTAMP_COLUMN).unwrap().as_primitive::<UInt64Type>().values(),
        &[33, 33]
    );
    assert_eq!(segment.read(0, &schema, &[]).unwrap().num_rows(), 2);
}

#[test]
fn any_arrow_reader_reads_both_files() {
    let rows = wide_rows(0, 30);
    let schema = wide_relation(&rows);
    let dir = tempfile::tempdir().unwrap();
    let info = write_segment(dir.path(), &schema, &rows, None, 10, 30).unwrap();
    let open = |path| FileReader::try_new(std::fs::File::open(path).unwrap(), None).unwrap();
    let back: Vec<RecordBatch> = open(segment_path(dir.path(), info.id)).map(|b| b.unwrap()).collect();
    assert_eq!(concat_batches(&schema.schema, &back).unwrap().columns(), rows.columns());
    let sidecar: Vec<RecordBatch> = open(sidecar_path(dir.path(), info.id)).map(|b| b.unwrap()).collect();
    assert_eq!((sidecar.len(), sidecar[0].num_rows()), (1, 3));
}

#[test]
fn zone_maps_and_distinct_counts_are_there() {
    let rows = wide_rows(0, 1000);
    let schema = wide_relation(&rows);
    let dir = tempfile::tempdir().unwrap();
    let info = write_segment(dir.path(), &schema, &rows, None, 100, 1000).unwrap();
    let segment = Segment::open(dir.path(), info, Some(Timestamp(5))).unwrap();
    let maps = segment.zone_maps(&schema);
    assert_eq!(maps.row_counts.values(), &[100; 10]);
    for (field, zones) in schema.schema.fields().iter().zip(&maps.columns) {
        assert_eq!(
            zones.is_some(),
            !field.data_type().is_nested() && !field.data_type().is_null(),
            "{field}"
        );
        if let Some(zones) = zones {
            assert_eq!(
                (zones.min.data_type(), zones.max.data_type()),
                (field.data_type(), field.data_type())
            );
            assert_eq!((zones.min.len(), zones.max.len(), zones.null_counts.len()), (10, 10, 10));
        }
    }
    let ids = maps.columns[0].as_ref().unwrap();
    assert_eq!(ids.min.as_primitive::<Int64Type>().value(3), 600);
    assert_eq!(ids.max.as_primitive::<Int64Type>().value(3), 798);
    assert!(Arc::ptr_eq(&maps, &segment.zone_maps(&schema)), "cached");
    assert!(segment.zones_exact(0) && !segment.zones_exact(8));
    assert!(segment.distinct(0).unwrap().abs_diff(1000) < 100);
    assert_eq!(segment.distinct(8), None);
}

#[test]
fn a_segment_may_be_empty() {
    let rows = wide_rows(0, 1).slice(0, 0);
    let schema = wide_relation(&rows);
    let dir = tempfile::tempdir().unwrap();
    let info = write_segment(dir.path(), &schema, &rows, None, 10, 10).unwrap();
    assert_eq!((info.rows, info.first_key.as_slice()), (0, &[][..]));
    let segment = Segment::open(dir.path(), info.clone(), Some(Timestamp(5))).unwrap();
    assert_eq!((segment.batch_count(), segment.zone_maps(&schema).row_counts.len()), (0, 0));
    segment.verify().unwrap();
    assert_eq!(SegmentInfo::from_staged(dir.path(), &info.staged()).unwrap(), info);
}

#[test]
fn staged_segments_move_once_and_keep_their_info() {
    let rows = wide_rows(0, 30);
    let schema = wide_relation(&rows);
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let info = write_segment(from.path(), &schema, &rows, None, 10, 30).unwrap();
    for _ in 0..2 {
        move_segment(from.path(), to.path(), info.id).unwrap();
    }
    assert_eq!(SegmentInfo::from_staged(to.path(), &info.staged()).unwrap(), info);
    let mut other = info.staged();
    other.rows += 1;
    assert!(matches!(
        SegmentInfo::from_staged(to.path(), &other),
        Err(StorageError::Damaged { .. })
    ));
    Segment::open(to.path(), info.clone(), Some(Timestamp(1)))
        .unwrap()
        .verify()
        .unwrap();
    assert!(move_segment(from.path(), from.path(), info.id).is_err(), "neither here nor there");
}

#[test]
fn arrays_outlive_their_segment_and_its_files() {
    let rows = wide_rows(0, 30);
    let schema = wide_relation(&rows);
    let dir = tempfile::tempdir().unwrap();
    let info = write_segment(dir.path(), &schema, &rows, None, 30, 30).unwrap();
    let segment = Segment::open(dir.path(), info, Some(Timestamp(1))).unwrap();
    let read = segment.read(0, &schema, &[0, 1]).unwrap();
    segment.remove_on_drop();
    drop(segment);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(read.columns(), &rows.columns()[..2]);
}
