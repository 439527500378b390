#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{Field, Int32Type, UnionFields};

use super::*;

fn encode(array: &dyn Array) -> Vec<String> {
    let value = encoder(array).unwrap();
    (0..array.len())
        .map(|row| {
            let mut out = Vec::new();
            value(row, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
            text
        })
        .collect()
}

#[test]
fn integers_keep_every_digit() {
    assert_eq!(
        encode(&Int64Array::from(vec![i64::MIN, 9_007_199_254_740_993])),
        ["-9223372036854775808", "9007199254740993"]
    );
    assert_eq!(encode(&UInt64Array::from(vec![u64::MAX])), ["18446744073709551615"]);
}

#[test]
fn decimals_are_exact_numbers() {
    let array = Decimal128Array::from(vec![12_345, -5, 0]).with_precision_and_scale(38, 3).unwrap();
    assert_eq!(encode(&array), ["12.345", "-0.005", "0.000"]);
    let array = Decimal128Array::from(vec![7]).with_precision_and_scale(38, -2).unwrap();
    assert_eq!(encode(&array), ["700"]);
}

#[test]
fn floats_without_a_number_are_null() {
    assert_eq!(
        encode(&Float64Array::from(vec![0.1, f64::NAN, f64::INFINITY, 1e300])),
        ["0.1", "null", "null", "1e+300"]
    );
    assert_eq!(encode(&Float32Array::from(vec![0.1f32])), ["0.1"]);
}

#[test]
fn text_and_bytes() {
    assert_eq!(
        encode(&StringArray::from(vec![Some("a\"\n\u{0}é"), None])),
        ["\"a\\\"\\n\\u0000é\"", "null"]
    );
    assert_eq!(encode(&BinaryViewArray::from(vec![&b"\x00\xff"[..]])), ["\"AP8=\""]);
}

#[test]
fn times_are_iso_8601() {
    assert_eq!(encode(&Date32Array::from(vec![0])), ["\"1970-01-01\""]);
    assert_eq!(
        encode(&TimestampMicrosecondArray::from(vec![1_500_000])),
        ["\"1970-01-01T00:00:01.500\""]
    );
    assert_eq!(
        encode(&TimestampSecondArray::from(vec![0]).with_timezone("+00:00")),
        ["\"1970-01-01T00:00:00Z\""]
    );
    assert_eq!(encode(&Time32SecondArray::from(vec![3661])), ["\"01:01:01\""]);
}

#[test]
fn nested_values() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), None, Some(vec![])]);
    assert_eq!(encode(&list), ["[1,null]", "null", "[]"]);
    assert_eq!(encode(&list.slice(2, 1)), ["[]"]);
    let inner: ArrayRef = Arc::new(list);
    let object = StructArray::from(vec![(Arc::new(Field::new("l\"", inner.data_type().clone(), true)), inner)]);
    assert_eq!(encode(&object)[0], "{\"l\\\"\":[1,null]}");
    let fixed =
        FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), Some(2)]), Some(vec![Some(3), Some(4)])], 2);
    assert_eq!(encode(&fixed.slice(1, 1)), ["[3,4]"]);
}

#[test]
fn maps_are_objects() {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    builder.keys().append_value("a");
    builder.values().append_value(1);
    builder.append(true).unwrap();
    assert_eq!(encode(&builder.finish()), ["{\"a\":1}"]);
    let mut builder = MapBuilder::new(None, Int32Builder::new(), Int32Builder::new());
    builder.keys().append_value(5);
    builder.values().append_null();
    builder.append(true).unwrap();
    assert_eq!(encode(&builder.finish()), ["[[5,null]]"]);
}

#[test]
fn encodings_do_not_show() {
    let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None, Some("x")].into_iter().collect();
    assert_eq!(encode(&dictionary), ["\"x\"", "null", "\"x\""]);
    let runs: RunArray<Int32Type> = vec!["a", "a", "b"].into_iter().collect();
    assert_eq!(encode(&runs), ["\"a\"", "\"a\"", "\"b\""]);
    let fields: UnionFields = [
        (0, Arc::new(Field::new("i", DataType::Int32, true))),
        (3, Arc::new(Field::new("s", DataType::Utf8, true))),
    ]
    .into_iter()
    .collect();
    let children: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![1])), Arc::new(StringArray::from(vec!["y"]))];
    let union = UnionArray::try_new(
        fields,
        ScalarBuffer::from(vec![3i8, 0]),
        Some(ScalarBuffer::from(vec![0, 0])),
        children,
    )
    .unwrap();
    assert_eq!(encode(&union), ["\"y\"", "1"]);
}

#[test]
fn depth_is_limited() {
    let mut array: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    for _ in 0..100 {
        let field = Arc::new(Field::new("item", array.data_type().clone(), true));
        array = Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([1]), array, None));
    }
    assert!(encoder(array.as_ref()).is_err());
}
