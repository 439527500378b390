#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow_array::{ArrayRef, Int64Array, StringArray, StringViewArray, StructArray};
use arrow_schema::{DataType, Field};
use pyralog_storage::{KeySpan, SegmentId};

use super::*;

fn schema() -> RelationSchema {
    let nested = DataType::Struct(vec![Field::new("city", DataType::Utf8, true)].into());
    let fields = [
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("address", nested, true),
    ];
    RelationSchema::new(RelationId(5), fields, vec![0])
}

fn known(relation: RelationId) -> Option<Arc<RelationSchema>> {
    (relation == schema().id).then(|| Arc::new(schema()))
}

fn batch(schema: &RelationSchema, ids: std::ops::Range<i64>) -> RecordBatch {
    let names: Vec<Option<String>> = ids.clone().map(|i| (i % 3 != 0).then(|| format!("name {i}"))).collect();
    let cities: ArrayRef = Arc::new(StringArray::from_iter_values(ids.clone().map(|i| format!("city {i}"))));
    let DataType::Struct(fields) = schema.schema.field(2).data_type() else {
        panic!("not a struct")
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids)),
        Arc::new(StringArray::from(names)),
        Arc::new(StructArray::new(fields.clone(), vec![cities], None)),
    ];
    RecordBatch::try_new(schema.schema.clone(), columns).unwrap()
}

fn write_set() -> WriteSet {
    let schema = schema();
    let keys = RecordBatch::try_new(schema.key_schema(), vec![Arc::new(Int64Array::from(vec![7, 8]))]).unwrap();
    let staged = StagedSegment {
        segment: SegmentId(9),
        rows: 1,
        bytes: 2,
        sidecar_crc: 3,
        first_key: vec![1],
        last_key: vec![2, 3],
    };
    WriteSet {
        start: Timestamp(77),
        relations: vec![
            RelationWrites {
                relation: schema.id,
                emptied: false,
                puts: vec![batch(&schema, 0..3), batch(&schema, 10..400)],
                deletes: vec![keys],
                staged: vec![staged],
                policy: ConflictPolicy::LastWriteWins,
            },
            RelationWrites {
                relation: RelationId(6),
                emptied: true,
                puts: Vec::new(),
                deletes: Vec::new(),
                staged: Vec::new(),
                policy: ConflictPolicy::FirstCommitterWins,
            },
        ],
        reads: Vec::new(),
    }
}

fn with_reads() -> WriteSet {
    let reads = RelationReads {
        relation: RelationId(6),
        keys: vec![[1, 2].into(), [3].into()],
        spans: vec![KeySpan::all(), KeySpan::with_prefix(&[9])],
    };
    WriteSet {
        reads: vec![reads],
        ..write_set()
    }
}

fn assert_same(a: &WriteSet, b: &WriteSet) {
    assert_eq!((a.start, a.relations.len(), &a.reads), (b.start, b.relations.len(), &b.reads));
    for (a, b) in a.relations.iter().zip(&b.relations) {
        assert_eq!(
            (a.relation, a.emptied, a.policy, &a.staged, &a.puts, &a.deletes),
            (b.relation, b.emptied, b.policy, &b.staged, &b.puts, &b.deletes)
        );
    }
}

#[test]
fn write_sets_come_back() {
    for write_set in [write_set(), with_reads()] {
        let bytes = encode_write_set(&write_set).unwrap();
        assert_same(&decode_write_set(&bytes, &known).unwrap(), &write_set);
    }
}

#[test]
fn what_was_read_comes_behind_a_write_set_that_is_encoded_as_ever() {
    let (without, with) = (encode_write_set(&write_set()).unwrap(), encode_write_set(&with_reads()).unwrap());
    assert!(with.len() > without.len() && with.starts_with(&without));
    let encoded = EncodedWriteSet::new(Arc::new(with_reads())).unwrap();
    assert!(staged_only(&encoded).unwrap().is_some_and(|staged| staged.reads.is_empty()));
}

#[test]
fn a_proposed_write_set_is_applied_as_it_is_and_decoded_only_elsewhere() {
    let original = Arc::new(write_set());
    let encoded = EncodedWriteSet::new(original.clone()).unwrap();
    assert!(Arc::ptr_eq(&encoded.clone().write_set(&known).unwrap(), &original));
    let copy: EncodedWriteSet = decode(&encode(&encoded).unwrap()).unwrap();
    assert_same(&copy.write_set(&known).unwrap(), &original);
}

#[test]
fn schemas_come_back_with_their_field_ids() {
    let schema = schema();
    let copy = decode_schema(&encode_schema(&schema).unwrap()).unwrap();
    assert_eq!(copy, schema);
    assert_eq!(copy.field_id(2), 2);
}

#[test]
fn cut_and_flipped_bytes_never_panic() {
    let whole = encode_write_set(&write_set()).unwrap().len();
    let bytes = encode_write_set(&with_reads()).unwrap();
    // What is cut off where the writes end is a write set that has read nothing.
    for cut in (0..bytes.len()).filter(|cut| *cut != whole) {
        assert!(decode_write_set(&bytes.slice(..cut), &known).is_err(), "cut at {cut}");
    }
    for at in 0..bytes.len().min(4_000) {
        for bit in [0x01, 0x80] {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= bit;
            // An error or other values: anything but a panic or a huge allocation.
            let _ = decode_write_set(&flipped.into(), &known);
        }
    }
}

#[test]
fn a_newer_version_is_named() {
    let mut bytes = encode(&1u64).unwrap().to_vec();
    bytes[0] = 2;
    assert!(matches!(decode::<u64>(&bytes), Err(CodecError::Newer(2))));
    assert!(matches!(decode::<u64>(&[]), Err(CodecError::Empty)));
    assert!(matches!(decode::<u64>(&[1, 5, 5]), Err(CodecError::Trailing(1))));
}

#[test]
fn a_claimed_length_beyond_the_bytes_is_refused() {
    // Version 1, then a byte string that claims 2^30 - 1 bytes.
    let bytes = [1, 252, 0xff, 0xff, 0xff, 0x3f, 1, 2, 3];
    assert!(decode::<Blob>(&bytes).is_err());
}

#[test]
fn rows_cut_from_a_large_batch_do_not_bring_its_bytes_along() {
    let schema = RelationSchema::new(
        RelationId(5),
        [
            Field::new("id", DataType::Int64, false),
            Field::new("text", DataType::Utf8View, true),
        ],
        vec![0],
    );
    let text = |i: i64| format!("a text of more than twelve bytes, number {i}");
    let whole = RecordBatch::try_new(
        schema.schema.clone(),
        vec![
            Arc::new(Int64Array::from_iter_values(0..20_000)),
            Arc::new(StringViewArray::from_iter_values((0..20_000).map(text))),
        ],
    )
    .unwrap();
    let cut: Vec<RecordBatch> = (0..10).map(|part| whole.slice(part * 2_000, 2_000)).collect();
    let bytes = encode_stream(&schema.schema, &cut).unwrap();
    assert!(bytes.len() < 20_000 * (8 + 16 + 50), "{} bytes", bytes.len());
    assert_eq!(decode_stream(&bytes.into()).unwrap().1, cut);
}

/// Logs have these numbers.
#[test]
fn policies_have_the_numbers_that_they_had() {
    let mut writes = write_set().relations.remove(1);
    for (policy, emptied, number) in [
        (ConflictPolicy::FirstCommitterWins, false, 0),
        (ConflictPolicy::LastWriteWins, false, 1),
        (ConflictPolicy::FirstCommitterWins, true, 2),
        (ConflictPolicy::LastWriteWins, true, 3),
    ] {
        (writes.policy, writes.emptied) = (policy, emptied);
        let encoded = encode(&WirePolicy::of(&writes)).unwrap();
        assert_eq!(encoded.as_ref(), [VERSION, number]);
    }
}
