//! From a metadata value to the type that a caller wants, if it is that or converts without loss.

use super::value::Value;

/// A type that metadata can be read as: `bool`, whole numbers, `f32`, `&str`, `&[u8]`, and `Vec`s of
/// them.
pub trait FromValue<'a>: Sized {
    /// What a value must be, for a message.
    fn expected() -> String;

    /// The value as this type.
    ///
    /// # Errors
    /// What the value is instead.
    fn from_value(value: Value<'a>) -> Result<Self, String>;
}

/// Whole numbers are taken from any integer type in which they were stored, if they fit.
macro_rules! whole_numbers {
    ($($type:ty)*) => {$(
        impl FromValue<'_> for $type {
            fn expected() -> String {
                format!("a whole number from {} to {}", <$type>::MIN, <$type>::MAX)
            }

            fn from_value(value: Value) -> Result<Self, String> {
                value.integer().and_then(|x| x.try_into().ok()).ok_or_else(|| value.describe())
            }
        }
    )*};
}
whole_numbers!(u32 i32 u64 usize);

impl FromValue<'_> for f32 {
    fn expected() -> String {
        "a number (f32)".to_owned()
    }

    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::F32(x) if !x.is_nan() => Ok(x),
            // Nothing finite may become infinite.
            Value::F64(x) if !x.is_nan() && (x as f32).is_infinite() == x.is_infinite() => Ok(x as f32),
            other => Err(other.describe()),
        }
    }
}

impl FromValue<'_> for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn from_value(value: Value) -> Result<Self, String> {
        if let Value::Bool(x) = value { Ok(x) } else { Err(value.describe()) }
    }
}

impl<'a> FromValue<'a> for &'a [u8] {
    fn expected() -> String {
        "a string".to_owned()
    }

    fn from_value(value: Value<'a>) -> Result<Self, String> {
        if let Value::Str(bytes) = value { Ok(bytes) } else { Err(value.describe()) }
    }
}

impl<'a> FromValue<'a> for &'a str {
    fn expected() -> String {
        "a string of UTF-8".to_owned()
    }

    fn from_value(value: Value<'a>) -> Result<Self, String> {
        <&[u8]>::from_value(value)
            .and_then(|bytes| std::str::from_utf8(bytes).map_err(|e| format!("{} ({e})", value.describe())))
    }
}

impl<'a, T: FromValue<'a>> FromValue<'a> for Vec<T> {
    fn expected() -> String {
        format!("an array, each element {}", T::expected())
    }

    fn from_value(value: Value<'a>) -> Result<Self, String> {
        let Value::Array(array) = value else { return Err(value.describe()) };
        // The length was compared with the file's when that was opened.
        let mut elements = Vec::with_capacity(array.len());
        for (i, element) in array.iter().enumerate() {
            elements.push(T::from_value(element).map_err(|got| format!("{got} as element {i}"))?);
        }
        Ok(elements)
    }
}
