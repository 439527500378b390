#![allow(clippy::unwrap_used)]
use arrow_array::types::Int64Type;
use arrow_array::*;

use super::*;

fn zones(array: ArrayRef) -> (Option<Zones>, bool, Option<DistinctSketch>) {
    let mut builder = ZoneBuilder::new(array.data_type());
    builder.add(&array);
    builder.finish().unwrap()
}

fn check(array: ArrayRef, min: ArrayRef, max: ArrayRef, exact: bool) {
    let nulls = array.null_count() as u64;
    let (zones, found_exact, _) = zones(array);
    let zones = zones.unwrap();
    assert_eq!(
        (&zones.min, &zones.max, zones.null_counts, found_exact),
        (&min, &max, vec![nulls], exact)
    );
}

#[test]
fn numbers_dates_and_decimals_with_nulls_and_slices() {
    let ints: ArrayRef = Arc::new(Int64Array::from(vec![Some(-100), Some(3), None, Some(-7), Some(9), Some(100)]));
    check(
        ints.slice(1, 4),
        Arc::new(Int64Array::from(vec![-7])),
        Arc::new(Int64Array::from(vec![9])),
        true,
    );
    let dates: ArrayRef = Arc::new(Date32Array::from(vec![5, 1]));
    check(
        dates,
        Arc::new(Date32Array::from(vec![1])),
        Arc::new(Date32Array::from(vec![5])),
        true,
    );
    let time = |v: Vec<i64>| Arc::new(TimestampMicrosecondArray::from(v).with_timezone("UTC")) as ArrayRef;
    check(time(vec![5, 1]), time(vec![1]), time(vec![5]), true);
    let decimal = |v: Vec<i128>| Arc::new(Decimal128Array::from(v).with_precision_and_scale(20, 2).unwrap()) as ArrayRef;
    check(decimal(vec![-5, 1 << 70]), decimal(vec![-5]), decimal(vec![1 << 70]), true);
}

#[test]
fn float_zeros_count_as_both_and_a_nan_makes_bounds_unknown() {
    let floats = |v: Vec<f64>| Arc::new(Float64Array::from(v)) as ArrayRef;
    check(floats(vec![1.5, -2.5]), floats(vec![-2.5]), floats(vec![1.5]), true);
    let (found, exact, _) = zones(floats(vec![0.0, 0.0]));
    let found = found.unwrap();
    assert!(found.min.as_primitive::<types::Float64Type>().value(0).is_sign_negative());
    assert!(found.max.as_primitive::<types::Float64Type>().value(0).is_sign_positive());
    assert!(!exact);
    check(
        floats(vec![f64::NAN, 1.0]),
        new_null_array(&DataType::Float64, 1),
        new_null_array(&DataType::Float64, 1),
        false,
    );
}

#[test]
fn strings_of_every_kind() {
    let values = [Some("pear"), None, Some("apple"), Some("applesauce, a long one")];
    macro_rules! check_type {
        ($type:ty, $convert:expr) => {
            let of = |values: &[Option<&'static str>]| Arc::new(<$type>::from_iter(values.iter().map(|v| v.map($convert)))) as ArrayRef;
            check(of(&values), of(&[Some("apple")]), of(&[Some("pear")]), true);
        };
    }
    check_type!(StringArray, |v| v);
    check_type!(LargeStringArray, |v| v);
    check_type!(StringViewArray, |v| v);
    check_type!(BinaryArray, str::as_bytes);
    check_type!(LargeBinaryArray, str::as_bytes);
    check_type!(BinaryViewArray, str::as_bytes);
    let fixed = |v: &[[u8; 2]]| Arc::new(FixedSizeBinaryArray::try_from_iter(v.iter()).unwrap()) as ArrayRef;
    check(fixed(&[*b"zz", *b"ab"]), fixed(&[*b"ab"]), fixed(&[*b"zz"]), true);
    let bools = |v: Vec<Option<bool>>| Arc::new(BooleanArray::from(v)) as ArrayRef;
    check(
        bools(vec![None, Some(true)]),
        bools(vec![Some(true)]),
        bools(vec![Some(true)]),
        true,
    );
}

#[test]
fn unknown_where_all_is_null_and_none_where_nothing_orders() {
    check(
        new_null_array(&DataType::Utf8, 4),
        new_null_array(&DataType::Utf8, 1),
        new_null_array(&DataType::Utf8, 1),
        true,
    );
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)])]);
    let (zones, exact, sketch) = zones(Arc::new(list));
    assert!(zones.is_none() && !exact && sketch.is_none());
}

#[test]
fn distinct_values_of_every_width() {
    let estimate = |array: ArrayRef| zones(array).2.unwrap().estimate();
    let near = |found: u64, wanted: u64| assert!(found.abs_diff(wanted) * 10 <= wanted, "{found} for {wanted}");
    near(
        estimate(Arc::new(Int8Array::from_iter_values((0..1000).map(|n| (n % 100) as i8)))),
        100,
    );
    near(estimate(Arc::new(Int16Array::from_iter_values((0..9000).map(|n| n % 3000)))), 3000);
    near(estimate(Arc::new(Int32Array::from_iter_values(0..9000))), 9000);
    near(
        estimate(Arc::new(Int64Array::from_iter((0..9000).map(|n| (n % 2 == 0).then_some(n))))),
        4500,
    );
    near(
        estimate(Arc::new(Decimal128Array::from_iter_values((0..9000).map(|n| n << 64)))),
        9000,
    );
    near(
        estimate(Arc::new(Decimal256Array::from_iter_values(
            (0..500).map(arrow_buffer::i256::from_i128),
        ))),
        500,
    );
    near(
        estimate(Arc::new(StringArray::from_iter_values((0..9000).map(|n| n.to_string())))),
        9000,
    );
    near(estimate(Arc::new(BooleanArray::from(vec![true, false, true]))), 2);
}
