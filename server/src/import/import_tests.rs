#![allow(clippy::unwrap_used)]
use std::io::Cursor;

use ::arrow::array::{ArrayRef, AsArray, DictionaryArray, Int64Array, RecordBatch, StringArray};
use ::arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema};
use ::arrow::error::ArrowError;
use ::arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};

use super::*;

fn options() -> ReadOptions {
    ReadOptions {
        batch_rows: 2,
        sample_rows: 100,
        header: true,
        delimiter: b',',
        lenient: false,
    }
}

fn collect(rows: Rows) -> Result<Vec<RecordBatch>, ArrowError> {
    rows.batches.collect()
}

fn names(schema: &SchemaRef) -> Vec<(&str, &DataType)> {
    schema
        .fields()
        .iter()
        .map(|field| (field.name().as_str(), field.data_type()))
        .collect()
}

#[test]
fn csv_infers_types() {
    let text = "id,name,score,day\n1,a,1.5,2020-01-01\n2,,2,2020-01-02\n3,\"c,d\",,2020-01-03\n";
    let rows = csv::open(Cursor::new(text), &options(), None).unwrap();
    assert_eq!(
        names(&rows.schema),
        [
            ("id", &DataType::Int64),
            ("name", &DataType::Utf8),
            ("score", &DataType::Float64),
            ("day", &DataType::Date32)
        ]
    );
    let batches = collect(rows).unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(batches[1].column(1).as_string::<i32>().value(0), "c,d");
}

#[test]
fn the_tables_types_win() {
    let target: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("zip", DataType::Utf8View, true),
        Field::new("n", DataType::Int32, true),
    ]));
    let rows = csv::open(Cursor::new("zip,n\n00123,1\n"), &options(), Some(&target)).unwrap();
    assert_eq!(names(&rows.schema), [("zip", &DataType::Utf8), ("n", &DataType::Int32)]);
    assert_eq!(collect(rows).unwrap()[0].column(0).as_string::<i32>().value(0), "00123");
}

#[test]
fn csv_that_breaks_its_type_is_an_error() {
    let options = ReadOptions {
        sample_rows: 1,
        ..options()
    };
    let rows = csv::open(Cursor::new("n\n1\nx\n"), &options, None).unwrap();
    assert!(collect(rows).unwrap_err().to_string().contains("x"));
    assert!(csv::open(Cursor::new(""), &options, None).is_err());
}

#[test]
fn json_objects_in_lines_and_in_an_array() {
    let objects = [
        "{\"z\": 1, \"a\": {\"x\": [1, 2]}}",
        "{\"z\": 2,\n \"b\": \"[,]{\\\"\"}",
        "{\"a\": null}",
    ];
    for text in [objects.join("\n"), format!(" [\n{}\n] ", objects.join(" ,\n"))] {
        let rows = json::open(Cursor::new(text), &options(), None).unwrap();
        assert_eq!(
            rows.schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(),
            ["z", "a", "b"]
        );
        let batches = collect(rows).unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
        assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().values(), &[1, 2]);
        assert_eq!(batches[0].column(2).as_string::<i32>().value(1), "[,]{\"");
    }
}

#[test]
fn wrong_json_is_an_error() {
    for text in ["[{\"a\": 1}", "[{\"a\": 1}] x", "{\"a\": ", "[1, 2]", "", "[]"] {
        let outcome = json::open(Cursor::new(text), &options(), None).and_then(|rows| collect(rows).map_err(|error| error.to_string()));
        assert!(outcome.is_err(), "{text}");
    }
    let options = ReadOptions {
        sample_rows: 1,
        ..options()
    };
    let rows = json::open(Cursor::new("{\"a\": 1}\n{\"a\": 1, \"b\": 2}"), &options, None).unwrap();
    assert!(collect(rows).unwrap_err().to_string().contains('b'));
}

fn sample() -> RecordBatch {
    let id: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
    let name: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
    let kind: ArrayRef = Arc::new(vec!["x", "y", "x"].into_iter().collect::<DictionaryArray<Int32Type>>());
    RecordBatch::try_from_iter([("id", id), ("name", name), ("kind", kind)]).unwrap()
}

fn stream_bytes() -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &sample().schema()).unwrap();
    writer.write(&sample()).unwrap();
    writer.write(&sample()).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn arrow_streams_and_files() {
    let mut writer = FileWriter::try_new_with_options(Vec::new(), &sample().schema(), IpcWriteOptions::default()).unwrap();
    writer.write(&sample()).unwrap();
    writer.write(&sample()).unwrap();
    let file = writer.into_inner().unwrap();
    for bytes in [stream_bytes(), file] {
        let rows = arrow_stream::open(Cursor::new(bytes)).unwrap();
        assert_eq!(rows.schema, sample().schema());
        assert_eq!(collect(rows).unwrap(), [sample(), sample()]);
    }
}

#[test]
fn empty_arrow_batches_do_not_shift_the_next() {
    let mut writer = StreamWriter::try_new(Vec::new(), &sample().schema()).unwrap();
    writer.write(&sample().slice(0, 0)).unwrap();
    writer.write(&sample()).unwrap();
    let rows = arrow_stream::open(Cursor::new(writer.into_inner().unwrap())).unwrap();
    assert_eq!(collect(rows).unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
}

#[test]
fn damaged_arrow_never_panics() {
    let bytes = stream_bytes();
    for length in 0..bytes.len() - 9 {
        let cut = bytes[..length].to_vec();
        let outcome = arrow_stream::open(Cursor::new(cut)).and_then(|rows| collect(rows).map_err(|error| error.to_string()));
        // A cut between messages reads as a shorter stream; any other is an error.
        if let Ok(batches) = outcome {
            assert!(batches.len() < 2);
        }
    }
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let _outcome = arrow_stream::open(Cursor::new(damaged)).and_then(|rows| collect(rows).map_err(|error| error.to_string()));
        }
    }
}

#[test]
fn formats() {
    assert_eq!(ImportFormat::of_path(Path::new("a.PARQUET")), Ok(ImportFormat::Parquet));
    assert_eq!(ImportFormat::of_path(Path::new("a.jsonl")), Ok(ImportFormat::Json));
    assert!(
        ImportFormat::of_path(Path::new("a.npy"))
            .unwrap_err()
            .contains("not supported by this version")
    );
    assert_eq!(
        ImportFormat::of_path(Path::new("a.ttl.gz")),
        Ok(ImportFormat::Rdf(RdfFormat::Turtle))
    );
    assert_eq!(ImportFormat::of_path(Path::new("a.owl")), Ok(ImportFormat::Rdf(RdfFormat::RdfXml)));
    assert!(ImportFormat::of_path(Path::new("a")).unwrap_err().contains("--format"));
}
