//! The text of a variable, read as whatever its key wants.

use serde::de::value::{SeqDeserializer, StringDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::tree::Error;

/// Text that becomes a truth value, a number, a list … on demand. Its errors never quote it.
pub(super) struct Text(pub(super) String);

impl IntoDeserializer<'_, Error> for Text {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl Text {
    /// Lists and tables may be written as in a TOML file.
    fn as_toml(&self) -> Result<toml::Value, Error> {
        let table = format!("value = {}", self.0).parse::<toml::Table>();
        let value = table.ok().and_then(|mut table| {
            // Anything after the value's end would be another key.
            (table.len() == 1).then(|| table.remove("value")).flatten()
        });
        value.ok_or_else(|| Error::custom("is not a value in TOML's syntax"))
    }

    fn into_string(self) -> StringDeserializer<Error> {
        self.0.into_deserializer()
    }
}

macro_rules! numbers {
    ($($method:ident, $visit:ident, $kind:ident;)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let digits = self.0.trim().replace('_', "");
            match digits.parse() {
                Ok(number) => visitor.$visit(number),
                Err(_) => Err(Error::custom(format_args!(
                    "must be a whole number from {} to {}", $kind::MIN, $kind::MAX
                ))),
            }
        }
    )+};
}

impl<'de> Deserializer<'de> for Text {
    type Error = Error;

    numbers! {
        deserialize_u8, visit_u8, u8;
        deserialize_u16, visit_u16, u16;
        deserialize_u32, visit_u32, u32;
        deserialize_u64, visit_u64, u64;
        deserialize_u128, visit_u128, u128;
        deserialize_i8, visit_i8, i8;
        deserialize_i16, visit_i16, i16;
        deserialize_i32, visit_i32, i32;
        deserialize_i64, visit_i64, i64;
        deserialize_i128, visit_i128, i128;
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.trim() {
            "true" | "1" => visitor.visit_bool(true),
            "false" | "0" => visitor.visit_bool(false),
            _ => Err(Error::custom("must be true or false")),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => visitor.visit_f64(number),
            _ => Err(Error::custom("must be a number, such as 0.5")),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    /// Empty is none, because that is how a variable is "not set" in compose files and unit files.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_empty() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.trim_start().starts_with('[') {
            return self
                .as_toml()?
                .deserialize_seq(visitor)
                .map_err(Error::from);
        }
        let items = self.0.split(',').map(str::trim);
        let items = items.map(|item| Text(item.to_owned()));
        let empty = self.0.trim().is_empty();
        visitor.visit_seq(SeqDeserializer::new(items.skip(usize::from(empty))))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.as_toml()?
            .deserialize_map(visitor)
            .map_err(Error::from)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.as_toml()?
            .deserialize_struct(name, fields, visitor)
            .map_err(Error::from)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if !variants.contains(&self.0.as_str()) {
            let variants = variants.join(", ");
            return Err(Error::custom(format_args!("must be one of {variants}")));
        }
        visitor.visit_enum(self.into_string())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.0)
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct identifier ignored_any
    }
}
