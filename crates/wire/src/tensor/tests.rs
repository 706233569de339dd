//! Laws and hostile inputs of the tensor codec.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn object(buffer: &[u8], dtype: &str, shape: &Value) -> Value {
    json!({"buffer": STANDARD.encode(buffer), "dtype": dtype, "shape": shape})
}

/// A msgpack-numpy array with free choice of each part.
fn array(kind: &[u8], numpy: &str, shape: &[u64], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::write_map_len(&mut out, 5).unwrap();
    encode::write_bin(&mut out, b"nd").unwrap();
    encode::write_bool(&mut out, true).unwrap();
    encode::write_bin(&mut out, b"type").unwrap();
    encode::write_str(&mut out, numpy).unwrap();
    encode::write_bin(&mut out, b"kind").unwrap();
    encode::write_bin(&mut out, kind).unwrap();
    encode::write_bin(&mut out, b"shape").unwrap();
    encode::write_array_len(&mut out, u32::try_from(shape.len()).unwrap()).unwrap();
    for length in shape {
        encode::write_uint(&mut out, *length).unwrap();
    }
    encode::write_bin(&mut out, b"data").unwrap();
    encode::write_bin(&mut out, data).unwrap();
    out
}

#[test]
fn objects_structures_and_big_endian_arrays_are_refused() {
    let data = [0; 8];
    for (kind, numpy) in
        [(&b"O"[..], "|O"), (b"V", "|V8"), (b"", "|O"), (b"", ">f8"), (b"", "<u8"), (b"", "<c8")]
    {
        let raw = array(kind, numpy, &[1], &data);
        let refused = Tensor::from_json(&object(&raw, "torch.float64", &json!([1])));
        assert!(matches!(refused, Err(TensorError::Array(_))), "{numpy}: {refused:?}");
    }
}

#[test]
fn lengths_that_lie_are_refused_without_allocation() {
    let mut raw = array(b"", "<f8", &[1], &[0; 8]);
    let bin = raw.len() - 10;
    raw[bin] = 0xc6; // bin 32: the next four bytes are a length of four gigabytes
    raw[bin + 1..bin + 5].copy_from_slice(&[0xff; 4]);
    let refused = Tensor::from_json(&object(&raw, "torch.float64", &json!([1])));
    assert_eq!(refused, Err(TensorError::Array("a part of it is too long")));
    let huge = array(b"", "<f8", &[u64::MAX, u64::MAX], &[0; 8]);
    let refused = Tensor::from_json(&object(&huge, "torch.float64", &json!([1])));
    assert_eq!(refused, Err(TensorError::Shape { elements: 1 }));
}

#[test]
fn an_array_without_elements_cannot_ask_for_endless_brackets() {
    let long = 1_u64 << 40;
    let cases: [(&[u64], Value); 3] = [
        (&[long, 0], json!([0])),
        (&[0], json!([long, 0])),
        (&[65_536, 65_536, 0], json!([65_536, 65_536, 0])),
    ];
    for (own, wanted) in cases {
        let raw = array(b"", "<f8", own, &[]);
        let refused = Tensor::from_json(&object(&raw, "torch.float64", &wanted));
        assert_eq!(refused, Err(TensorError::Shape { elements: 0 }), "{own:?} {wanted}");
    }
    let raw = array(b"", "<f8", &[2, 0], &[]);
    let small = Tensor::from_json(&object(&raw, "torch.float64", &json!([0]))).unwrap();
    assert_eq!(small.python_text(), "[[], []]");
}

#[test]
fn casts_follow_the_named_type_and_refuse_what_does_not_fit() {
    let raw = array(b"", "<f8", &[2], &[1.1_f64, -2.9].map(f64::to_le_bytes).concat());
    let text = |dtype| Tensor::from_json(&object(&raw, dtype, &json!([2]))).unwrap().python_text();
    assert_eq!(text("float64"), "[1.1, -2.9]");
    assert_eq!(text("torch.float32"), "[1.100000023841858, -2.9000000953674316]");
    assert_eq!(text("torch.float16"), "[1.099609375, -2.900390625]");
    assert_eq!(text("torch.int64"), "[1, -2]");
    assert_eq!(text("torch.bool"), "[True, True]");
    let refused = Tensor::from_json(&object(&raw, "torch.uint8", &json!([2])));
    assert_eq!(refused, Err(TensorError::Element { index: 1 }));
    let nan = array(b"", "<f8", &[1], &f64::NAN.to_le_bytes());
    let refused = Tensor::from_json(&object(&nan, "torch.int64", &json!([1])));
    assert_eq!(refused, Err(TensorError::Element { index: 0 }));
}

#[test]
fn shape_may_leave_one_dimension_open() {
    let raw = array(b"", "|u1", &[6], &[1, 2, 3, 4, 5, 6]);
    let shape =
        |shape: Value| Tensor::from_json(&object(&raw, "torch.uint8", &shape)).map(|t| t.shape);
    assert_eq!(shape(json!([-1, 2])), Ok(vec![3, 2]));
    assert_eq!(shape(json!("[6]")), Ok(vec![6]));
    for bad in [json!([-1, -1]), json!([-1, 4]), json!([-1, 0]), json!([5]), json!([-6])] {
        assert_eq!(shape(bad), Err(TensorError::Shape { elements: 6 }));
    }
    for bad in
        [json!([]), json!([6.0]), json!("6"), json!(null), json!([1, 1, 1, 1, 1, 1, 1, 1, 6])]
    {
        assert_eq!(shape(bad), Err(TensorError::Object("shape")));
    }
}

proptest! {
    #[test]
    fn rows_round_trip(values in prop::collection::vec(any::<f64>(), 0..300)) {
        let json = serde_json::to_value(TensorObject::from_row(&values)).unwrap();
        let tensor = Tensor::from_json(&json).unwrap();
        prop_assert_eq!(tensor.shape(), &[values.len()][..]);
        let back = tensor.into_values();
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&back), bits(&values));
    }

    #[test]
    fn foreign_bytes_never_panic(raw in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..60) {
        let refused = Tensor::from_json(&object(&raw, "torch.float64", &json!([1])));
        prop_assert!(refused.is_err());
        let mut good = array(b"", "<f8", &[1], &[0; 8]);
        good.truncate(cut);
        good.extend(raw);
        let any = Tensor::from_json(&object(&good, "torch.float64", &json!([1])));
        if let Ok(tensor) = any {
            prop_assert_eq!(tensor.elements().len(), 1);
        }
    }
}
