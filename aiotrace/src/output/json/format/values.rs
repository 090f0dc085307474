//! Numbers of 64 bits as strings: many readers take a number in JSON for a double, which cannot hold them.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Value, json};

use super::described::{Described, Objects, Words};
use crate::output::text;

/// The name of the type of null, in the schema.
pub(super) const NULL: &str = "null";

/// A number as a hexadecimal string: an address, a handle, the program's own data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex(pub u64);

/// A number of 64 bits as a decimal string: a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal(pub i64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = Vec::with_capacity(18);
        text::hex(&mut line, self.0);
        serializer.serialize_str(str::from_utf8(&line).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").ok_or_else(|| D::Error::custom("no 0x"))?;
        u64::from_str_radix(digits, 16).map(Self).map_err(D::Error::custom)
    }
}

impl Described for Hex {
    fn words() -> Words {
        Words::of("hex")
    }

    fn schema(_: &mut Objects) -> Value {
        json!({"type": "string", "pattern": "^0x(0|[1-9a-f][0-9a-f]{0,15})$"})
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(itoa::Buffer::new().format(self.0))
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

impl Described for Decimal {
    fn words() -> Words {
        Words::of("decimal")
    }

    fn schema(_: &mut Objects) -> Value {
        json!({"type": "string", "pattern": "^(0|-?[1-9][0-9]{0,18})$"})
    }
}

impl From<u64> for Decimal {
    fn from(value: u64) -> Self {
        Self(value as i64)
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self(value)
    }
}
