//! The tensor of the SDK: base64 of a msgpack-numpy array, with a type and a shape beside it.
//!
//! Written: `torch.float64`, one row, byte for byte what the SDK writes. Read: every numeric type
//! that the SDK reads, in both spellings (`torch.float64`, `float64`); the array is cast to the
//! named type and reshaped to the named shape, as the SDK does. Objects, structures, big-endian
//! arrays and text keys are refused. Nothing here trusts a length before it has seen the bytes.
//!
//! Specification: the interoperability notes on the wire protocol, section 4; golden data
//! `wire/tensor.json`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forecastd_core::commitment::python_float;
use half::f16;
use rmp::decode;
use rmp::encode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most elements that are decoded; a forecast has 100.
const MAX_ELEMENTS: usize = 65_536;
/// Most dimensions of an array; a forecast has 1.
const MAX_DIMENSIONS: usize = 8;
/// Longest key or type name inside the buffer, bytes.
const MAX_NAME_LEN: usize = 16;

/// A tensor as it stands in a JSON body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorObject {
    /// Base64 (standard alphabet, padded) of the msgpack-numpy array.
    pub buffer: String,
    /// Element type, for example `torch.float64`.
    pub dtype: String,
    /// Length of each dimension; `[0]` for a single number.
    pub shape: Vec<usize>,
}

/// A decoded tensor: elements in row-major order and their shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    elements: Elements,
    shape: Vec<usize>,
}

/// The elements of a tensor by the kind of number that Python makes of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Elements {
    /// Any float type, widened to 64 bits.
    Float(Vec<f64>),
    /// Any integer type.
    Integer(Vec<i64>),
    /// Truth values.
    Bool(Vec<bool>),
}

/// Why a tensor is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The JSON value is not an object with a text `buffer`, a text `dtype` and a `shape`.
    #[error("tensor object has no usable `{0}`")]
    Object(&'static str),
    /// The element type is not one that the protocol knows.
    #[error("tensor type is not known: {0}")]
    Dtype(String),
    /// The buffer is not padded standard base64.
    #[error("tensor buffer is not base64")]
    Base64,
    /// The decoded buffer is not a msgpack-numpy array.
    #[error("tensor buffer is not a numpy array: {0}")]
    Array(&'static str),
    /// The shape does not fit the number of elements, or is too large.
    #[error("tensor shape does not fit its {elements} elements")]
    Shape {
        /// Elements in the buffer.
        elements: usize,
    },
    /// An element cannot be held by the named type.
    #[error("tensor element {index} does not fit its type")]
    Element {
        /// Position of the element.
        index: usize,
    },
}

/// Element types; `Float*` are what a forecast should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dtype {
    Float16,
    Float32,
    Float64,
    Uint8,
    Int8,
    Int16,
    Int32,
    Int64,
    Bool,
}

impl Dtype {
    /// Reads the object's `dtype`, with or without the prefix `torch.`.
    fn from_name(name: &str) -> Option<Self> {
        Some(match name.strip_prefix("torch.").unwrap_or(name) {
            "float16" => Self::Float16,
            "float32" => Self::Float32,
            "float64" => Self::Float64,
            "uint8" => Self::Uint8,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "bool" => Self::Bool,
            _ => return None,
        })
    }

    /// Reads numpy's type text of the buffer; only little-endian and byte-sized types.
    fn from_numpy(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"<f2" => Self::Float16,
            b"<f4" => Self::Float32,
            b"<f8" => Self::Float64,
            b"|u1" => Self::Uint8,
            b"|i1" => Self::Int8,
            b"<i2" => Self::Int16,
            b"<i4" => Self::Int32,
            b"<i8" => Self::Int64,
            b"|b1" => Self::Bool,
            _ => return None,
        })
    }

    const fn size(self) -> usize {
        match self {
            Self::Uint8 | Self::Int8 | Self::Bool => 1,
            Self::Float16 | Self::Int16 => 2,
            Self::Float32 | Self::Int32 => 4,
            Self::Float64 | Self::Int64 => 8,
        }
    }

    const fn integer_range(self) -> (i64, i64) {
        match self {
            Self::Uint8 => (0, u8::MAX as i64),
            Self::Int8 => (i8::MIN as i64, i8::MAX as i64),
            Self::Int16 => (i16::MIN as i64, i16::MAX as i64),
            Self::Int32 => (i32::MIN as i64, i32::MAX as i64),
            _ => (i64::MIN, i64::MAX),
        }
    }

    /// Reads `data`, whose length is a multiple of this type's size.
    fn load(self, data: &[u8]) -> Elements {
        match self {
            Self::Float16 => Elements::Float(each(data, |raw| f16::from_le_bytes(raw).to_f64())),
            Self::Float32 => Elements::Float(each(data, |raw| f64::from(f32::from_le_bytes(raw)))),
            Self::Float64 => Elements::Float(each(data, f64::from_le_bytes)),
            Self::Uint8 => Elements::Integer(each(data, |[byte]: [u8; 1]| i64::from(byte))),
            Self::Int8 => Elements::Integer(each(data, |raw| i64::from(i8::from_le_bytes(raw)))),
            Self::Int16 => Elements::Integer(each(data, |raw| i64::from(i16::from_le_bytes(raw)))),
            Self::Int32 => Elements::Integer(each(data, |raw| i64::from(i32::from_le_bytes(raw)))),
            Self::Int64 => Elements::Integer(each(data, i64::from_le_bytes)),
            Self::Bool => Elements::Bool(each(data, |[byte]: [u8; 1]| byte != 0)),
        }
    }
}

fn each<const N: usize, T>(data: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks::<N>().0.iter().map(|raw| read(*raw)).collect()
}

impl TensorObject {
    /// Writes one row of 64-bit floats, the form in which forecasts are sent.
    pub fn from_row(values: &[f64]) -> Self {
        let mut buffer = Vec::with_capacity(48 + 8 * values.len());
        // Writing to a vector fails only for lengths beyond 32 bits, which no forecast has.
        let written = write_row(&mut buffer, values);
        debug_assert!(written.is_ok(), "a forecast row fits msgpack");
        Self {
            buffer: STANDARD.encode(buffer),
            dtype: "torch.float64".to_owned(),
            shape: vec![values.len()],
        }
    }
}

type WriteError = encode::ValueWriteError<std::io::Error>;

fn write_row(buffer: &mut Vec<u8>, values: &[f64]) -> Result<(), WriteError> {
    let length = u32::try_from(values.len()).unwrap_or(u32::MAX);
    encode::write_map_len(buffer, 5)?;
    encode::write_bin(buffer, b"nd")?;
    encode::write_bool(buffer, true).map_err(WriteError::InvalidMarkerWrite)?;
    encode::write_bin(buffer, b"type")?;
    encode::write_str(buffer, "<f8")?;
    encode::write_bin(buffer, b"kind")?;
    encode::write_bin(buffer, b"")?;
    encode::write_bin(buffer, b"shape")?;
    encode::write_array_len(buffer, 1)?;
    encode::write_uint(buffer, u64::from(length))?;
    encode::write_bin(buffer, b"data")?;
    encode::write_bin_len(buffer, length.saturating_mul(8))?;
    for value in values {
        buffer.extend_from_slice(&value.to_le_bytes());
    }
    Ok(())
}

impl Tensor {
    /// Decodes the JSON object of a tensor.
    ///
    /// # Errors
    /// [`TensorError`] names the first broken rule.
    pub fn from_json(value: &Value) -> Result<Self, TensorError> {
        let text = |key: &'static str| {
            value.get(key).and_then(Value::as_str).ok_or(TensorError::Object(key))
        };
        let name = text("dtype")?;
        let dtype = Dtype::from_name(name)
            .ok_or_else(|| TensorError::Dtype(crate::headers::one_line(name)))?;
        let wanted = wanted_shape(value.get("shape"))?;
        let raw = STANDARD.decode(text("buffer")?).map_err(|_| TensorError::Base64)?;
        let (loaded, own_shape) = read_array(&raw)?;
        let elements = cast(loaded, dtype)?;
        let shape = final_shape(&wanted, own_shape, elements.len())?;
        // An array without elements fits any other length: its text would be nothing but brackets.
        let brackets =
            shape.iter().try_fold(1_usize, |all, length| all.checked_mul(1.max(*length)));
        if brackets.is_none_or(|all| all > MAX_ELEMENTS) {
            return Err(TensorError::Shape { elements: elements.len() });
        }
        Ok(Self { elements, shape })
    }

    /// The elements, row-major.
    pub const fn elements(&self) -> &Elements {
        &self.elements
    }

    /// Length of each dimension; empty for a single number.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the elements as floats; truth values count 0 and 1.
    pub fn into_values(self) -> Vec<f64> {
        match self.elements {
            Elements::Float(values) => values,
            Elements::Integer(values) => values.into_iter().map(|value| value as f64).collect(),
            Elements::Bool(values) => values.into_iter().map(f64::from).collect(),
        }
    }

    /// Returns the text that Python prints for the nested lists of this tensor: what a commitment
    /// is taken over.
    pub fn python_text(&self) -> String {
        let texts: Vec<String> = match &self.elements {
            Elements::Float(values) => values.iter().map(|value| python_float(*value)).collect(),
            Elements::Integer(values) => values.iter().map(ToString::to_string).collect(),
            Elements::Bool(values) => values
                .iter()
                .map(|value| if *value { "True" } else { "False" }.to_owned())
                .collect(),
        };
        let mut out = String::with_capacity(20 * texts.len() + 2);
        write_nested(&mut out, &self.shape, &mut texts.iter());
        out
    }
}

impl Elements {
    /// Number of elements.
    pub const fn len(&self) -> usize {
        match self {
            Self::Float(values) => values.len(),
            Self::Integer(values) => values.len(),
            Self::Bool(values) => values.len(),
        }
    }

    /// Tells whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn write_nested(out: &mut String, shape: &[usize], texts: &mut std::slice::Iter<'_, String>) {
    let Some((length, inner)) = shape.split_first() else {
        out.push_str(texts.next().map_or("", String::as_str));
        return;
    };
    out.push('[');
    for index in 0..*length {
        if index > 0 {
            out.push_str(", ");
        }
        write_nested(out, inner, texts);
    }
    out.push(']');
}

/// Reads the object's shape: a non-empty list of integers, or the text of one.
fn wanted_shape(value: Option<&Value>) -> Result<Vec<i64>, TensorError> {
    const BROKEN: TensorError = TensorError::Object("shape");
    let parsed;
    let list = match value {
        Some(Value::Array(list)) => list,
        Some(Value::String(text)) => {
            parsed = serde_json::from_str::<Vec<Value>>(text).map_err(|_| BROKEN)?;
            &parsed
        }
        _ => return Err(BROKEN),
    };
    if list.is_empty() || list.len() > MAX_DIMENSIONS {
        return Err(BROKEN);
    }
    list.iter().map(|item| item.as_i64().ok_or(BROKEN)).collect()
}

/// Applies the object's shape to an array of `count` elements with the shape `own`.
///
/// `[0]` means "as it is": the SDK writes it for a single number. One `-1` stands for "what is
/// left".
fn final_shape(wanted: &[i64], own: Vec<usize>, count: usize) -> Result<Vec<usize>, TensorError> {
    if wanted == [0] {
        return Ok(own);
    }
    let error = TensorError::Shape { elements: count };
    let mut known: usize = 1;
    let mut open = 0;
    for length in wanted {
        if *length == -1 {
            open += 1;
        } else {
            let length = usize::try_from(*length).map_err(|_| error.clone())?;
            known = known.checked_mul(length).ok_or_else(|| error.clone())?;
        }
    }
    let rest = match open {
        0 if known == count => 0,
        1 if known > 0 && count.is_multiple_of(known) => count / known,
        _ => return Err(error),
    };
    Ok(wanted.iter().map(|length| usize::try_from(*length).unwrap_or(rest)).collect())
}

/// Reads a msgpack-numpy array: its elements in their own type, and its shape.
fn read_array(raw: &[u8]) -> Result<(Elements, Vec<usize>), TensorError> {
    const ENDED: TensorError = TensorError::Array("it is cut short or not msgpack");
    let mut bytes = decode::Bytes::new(raw);
    let entries = decode::read_map_len(&mut bytes).map_err(|_| TensorError::Array("no map"))?;
    let (mut is_array, mut dtype, mut shape, mut data) = (false, None, None, None);
    if entries > 5 {
        return Err(TensorError::Array("more than five entries"));
    }
    for _ in 0..entries {
        match read_bin(&mut bytes, MAX_NAME_LEN)? {
            b"nd" => is_array = decode::read_bool(&mut bytes).map_err(|_| ENDED)?,
            b"type" => {
                let length = decode::read_str_len(&mut bytes)
                    .map_err(|_| TensorError::Array("its type is not a plain one"))?;
                let name = take(&mut bytes, length, MAX_NAME_LEN)?;
                let known = Dtype::from_numpy(name)
                    .ok_or(TensorError::Array("its type is not a little-endian number or bool"))?;
                dtype = Some(known);
            }
            b"kind" => {
                if !read_bin(&mut bytes, MAX_NAME_LEN)?.is_empty() {
                    return Err(TensorError::Array("it holds objects or structures"));
                }
            }
            b"shape" => shape = Some(read_shape(&mut bytes)?),
            b"data" => data = Some(read_bin(&mut bytes, MAX_ELEMENTS * 8)?),
            _ => return Err(TensorError::Array("an entry is not known")),
        }
    }
    if !bytes.remaining_slice().is_empty() {
        return Err(TensorError::Array("bytes follow it"));
    }
    let (true, Some(dtype), Some(shape), Some(data)) = (is_array, dtype, shape, data) else {
        return Err(TensorError::Array("an entry is missing"));
    };
    let count = data.len() / dtype.size();
    let product = shape.iter().try_fold(1_usize, |product, length| product.checked_mul(*length));
    if product != Some(count) || !data.len().is_multiple_of(dtype.size()) || count > MAX_ELEMENTS {
        return Err(TensorError::Shape { elements: count });
    }
    Ok((dtype.load(data), shape))
}

fn read_shape(bytes: &mut decode::Bytes<'_>) -> Result<Vec<usize>, TensorError> {
    const BROKEN: TensorError = TensorError::Array("its shape is not a short list of integers");
    let dimensions = decode::read_array_len(bytes).map_err(|_| BROKEN)?;
    if usize::try_from(dimensions).map_or(true, |count| count > MAX_DIMENSIONS) {
        return Err(BROKEN);
    }
    (0..dimensions).map(|_| decode::read_int::<usize, _>(bytes).map_err(|_| BROKEN)).collect()
}

fn read_bin<'a>(bytes: &mut decode::Bytes<'a>, limit: usize) -> Result<&'a [u8], TensorError> {
    let length = decode::read_bin_len(bytes)
        .map_err(|_| TensorError::Array("a key or its data is not of type bin"))?;
    take(bytes, length, limit)
}

/// Takes `length` bytes that are really there.
fn take<'a>(
    bytes: &mut decode::Bytes<'a>,
    length: u32,
    limit: usize,
) -> Result<&'a [u8], TensorError> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > limit {
        return Err(TensorError::Array("a part of it is too long"));
    }
    let rest = bytes.remaining_slice();
    let (part, rest) =
        rest.split_at_checked(length).ok_or(TensorError::Array("it is cut short"))?;
    *bytes = decode::Bytes::new(rest);
    Ok(part)
}

/// Casts to the named type as torch does, but refuses what does not fit.
fn cast(elements: Elements, dtype: Dtype) -> Result<Elements, TensorError> {
    let wide: Vec<f64> = match (elements, dtype) {
        (elements @ Elements::Bool(_), Dtype::Bool) => return Ok(elements),
        (Elements::Float(values), Dtype::Bool) => {
            return Ok(Elements::Bool(values.into_iter().map(|value| value != 0.0).collect()));
        }
        (Elements::Integer(values), Dtype::Bool) => {
            return Ok(Elements::Bool(values.into_iter().map(|value| value != 0).collect()));
        }
        (Elements::Float(values), Dtype::Float16 | Dtype::Float32 | Dtype::Float64) => values,
        (Elements::Integer(values), Dtype::Float16 | Dtype::Float32 | Dtype::Float64) => {
            values.into_iter().map(|value| value as f64).collect()
        }
        (Elements::Bool(values), Dtype::Float16 | Dtype::Float32 | Dtype::Float64) => {
            values.into_iter().map(f64::from).collect()
        }
        (Elements::Bool(values), _) => {
            return Ok(Elements::Integer(values.into_iter().map(i64::from).collect()));
        }
        (Elements::Integer(values), _) => return in_range(values, dtype).map(Elements::Integer),
        (Elements::Float(values), _) => {
            return truncate(&values)
                .and_then(|values| in_range(values, dtype))
                .map(Elements::Integer);
        }
    };
    #[expect(clippy::cast_possible_truncation, reason = "the sender names the narrower type")]
    let narrow = |value: f64| match dtype {
        Dtype::Float16 => f16::from_f32(value as f32).to_f64(),
        Dtype::Float32 => f64::from(value as f32),
        _ => value,
    };
    Ok(Elements::Float(wide.into_iter().map(narrow).collect()))
}

fn in_range(values: Vec<i64>, dtype: Dtype) -> Result<Vec<i64>, TensorError> {
    let (least, greatest) = dtype.integer_range();
    match values.iter().position(|value| *value < least || *value > greatest) {
        Some(index) => Err(TensorError::Element { index }),
        None => Ok(values),
    }
}

fn truncate(values: &[f64]) -> Result<Vec<i64>, TensorError> {
    // 2^63: the first float above every 64-bit integer.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let convert = |(index, value): (usize, &f64)| {
        #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
        (*value > -LIMIT && *value < LIMIT)
            .then_some(*value as i64)
            .ok_or(TensorError::Element { index })
    };
    values.iter().enumerate().map(convert).collect()
}

#[cfg(test)]
mod tests;
