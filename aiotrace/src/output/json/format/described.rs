//! How a type is described. The tables of docs/reference/json.md and the JSON Schema are made from these
//! descriptions, and the descriptions from the types and their comments.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Name, values::NULL};

/// A type of the format that can be described.
pub trait Described {
    /// The description for the tables.
    fn words() -> Words;
    /// The description for the schema; objects that it refers to are put into `all`.
    fn schema(all: &mut Objects) -> Value;
}

/// A type in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// The kind of value: `number`, `array of decimal`.
    pub kind: String,
    /// `: ` and the fields, or nothing.
    pub fields: String,
}

/// The descriptions of all objects, by the names of their types.
pub type Objects = BTreeMap<&'static str, Object>;

/// The description of an object.
#[derive(Clone, Debug, Default)]
pub struct Object {
    /// The sentences that say what the object is.
    pub about: String,
    /// The fields, in their order.
    pub fields: Vec<Field>,
}

/// The description of a field.
#[derive(Clone, Debug)]
pub struct Field {
    /// The field's name.
    pub name: &'static str,
    /// The sentences that say what the field holds.
    pub about: String,
    /// The field's type, for the tables.
    pub words: Words,
    /// The field's type, for the schema.
    pub schema: Value,
    /// The field may be absent.
    pub is_optional: bool,
}

impl Words {
    /// The words for a type without fields.
    pub fn of(kind: &str) -> Self {
        Self { kind: kind.to_owned(), fields: String::new() }
    }

    /// The words for an object: a link to its heading, or its fields if it has no heading.
    pub fn object(heading: &str, fields: impl FnOnce() -> Vec<Field>) -> Self {
        if !heading.is_empty() {
            let anchor = heading.replace(' ', "-");
            return Self::of(&format!("[{heading}](#{anchor})"));
        }
        let field = |it: &Field| {
            let about = if it.about.is_empty() { "" } else { &format!(" ({})", it.about) };
            format!("`{}` {}{}{about}", it.name, it.words.kind, it.words.fields)
        };
        let fields: Vec<String> = fields().iter().map(field).collect();
        Self { kind: "object".to_owned(), fields: format!(": {}", fields.join(", ")) }
    }

    fn within(self, outer: &str) -> Self {
        let kind = match self.kind.contains(" or ") {
            true => format!("{outer} of ({})", self.kind),
            false => format!("{outer} of {}", self.kind),
        };
        Self { kind, ..self }
    }
}

impl Field {
    /// The words for a field that is absent where others are null.
    pub fn optional(mut self) -> Self {
        let kind = self.words.kind.strip_suffix(" or null").unwrap_or(&self.words.kind).to_owned();
        self.words.kind = kind + ", or not there";
        if let Some(first) = self.schema["anyOf"].get(0) {
            self.schema = first.clone();
        } else if let Some(first) = self.schema["type"].get(0) {
            self.schema["type"] = first.clone();
        }
        if let Some(values) = self.schema.get_mut("enum").and_then(Value::as_array_mut) {
            values.retain(|it| !it.is_null());
        }
        self.is_optional = true;
        self
    }
}

impl Object {
    /// The object in the schema.
    pub fn schema(&self) -> Value {
        let of = |it: &Field| {
            let mut schema = it.schema.clone();
            if let (Some(schema), false) = (schema.as_object_mut(), it.about.is_empty()) {
                schema.insert("description".to_owned(), it.about.clone().into());
            }
            (it.name.to_owned(), schema)
        };
        let required: Vec<_> =
            self.fields.iter().filter(|it| !it.is_optional).map(|it| it.name).collect();
        json!({
            "type": "object",
            "description": self.about,
            "properties": self.fields.iter().map(of).collect::<serde_json::Map<_, _>>(),
            "required": required,
            "additionalProperties": false,
        })
    }
}

/// Joins the lines of a comment into one.
pub fn joined(comment: &[&str]) -> String {
    comment.iter().map(|it| it.trim()).collect::<Vec<_>>().join(" ")
}

/// A type that has only these values.
pub fn one_of(mut schema: Value, values: impl IntoIterator<Item = &'static str>) -> Value {
    let mut values: Vec<Value> = values.into_iter().map(Value::from).collect();
    let may_be_null = schema["type"].as_array().is_some_and(|it| it.contains(&NULL.into()));
    if may_be_null {
        values.push(Value::Null);
    }
    schema["enum"] = values.into();
    schema
}

macro_rules! plain {
    ($($type:ty: $words:literal, $schema:expr;)*) => {
        $(impl Described for $type {
            fn words() -> Words {
                Words::of($words)
            }

            fn schema(_: &mut Objects) -> Value {
                $schema
            }
        })*
    };
}

plain! {
    bool: "boolean", json!({"type": "boolean"});
    u16: "number", json!({"type": "integer", "minimum": 0, "maximum": u16::MAX});
    u32: "number", json!({"type": "integer", "minimum": 0, "maximum": u32::MAX});
    u64: "number", json!({"type": "integer", "minimum": 0});
    i16: "number", json!({"type": "integer", "minimum": i16::MIN, "maximum": i16::MAX});
    i32: "number", json!({"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX});
    i64: "number", json!({"type": "integer"});
    String: "string", json!({"type": "string"});
    Name: "string", json!({"type": "string"});
}

impl<T: Described> Described for Option<T> {
    fn words() -> Words {
        let words = T::words();
        Words { kind: format!("{} or null", words.kind), ..words }
    }

    fn schema(all: &mut Objects) -> Value {
        let mut schema = T::schema(all);
        match schema.get("type").cloned() {
            Some(Value::String(kind)) => {
                schema["type"] = json!([kind, NULL]);
                schema
            }
            _ => json!({"anyOf": [schema, {"type": NULL}]}),
        }
    }
}

impl<T: Described> Described for Vec<T> {
    fn words() -> Words {
        T::words().within("array")
    }

    fn schema(all: &mut Objects) -> Value {
        json!({"type": "array", "items": T::schema(all)})
    }
}

impl<T: Described> Described for BTreeMap<Name, T> {
    fn words() -> Words {
        T::words().within("object")
    }

    fn schema(all: &mut Objects) -> Value {
        json!({"type": "object", "additionalProperties": T::schema(all)})
    }
}

impl<T: Described> Described for Box<T> {
    fn words() -> Words {
        T::words()
    }

    fn schema(all: &mut Objects) -> Value {
        T::schema(all)
    }
}

/// Makes a part of a line: `/// What it is.`, its heading in docs/reference/json.md (if the heading is empty, the
/// fields stand where the part is used), its name, and its fields. `field: Type = VALUES`: the field has only those
/// values.
macro_rules! part {
    (
        $(#[doc = $about:literal])+
        $heading:literal $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $(#[serde($($serde:tt)*)])?
                $field:ident: $type:ty $(= $values:expr)?,
            )*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(missing_docs, reason = "a name of the manual's says enough, where its meaning is said nowhere else")]
        pub struct $name {
            $(
                $(#[doc = $doc])*
                $(#[serde($($serde)*)])?
                pub $field: $type,
            )*
        }

        impl $name {
            fn fields(all: &mut $crate::output::json::format::described::Objects)
                -> Vec<$crate::output::json::format::described::Field> {
                use $crate::output::json::format::described::{Described, Field, joined};
                vec![$({
                    let schema = <$type as Described>::schema(all);
                    $(let schema = $crate::output::json::format::described::one_of(schema, $values);)?
                    let field = Field {
                        name: stringify!($field),
                        about: joined(&[$($doc),*]),
                        words: <$type as Described>::words(),
                        schema,
                        is_optional: false,
                    };
                    $(let field = match stringify!($($serde)*).contains("skip_serializing_if") {
                        true => field.optional(),
                        false => field,
                    };)?
                    field
                }),*]
            }
        }

        impl $crate::output::json::format::described::Described for $name {
            fn words() -> $crate::output::json::format::described::Words {
                $crate::output::json::format::described::Words::object($heading, || {
                    Self::fields(&mut Default::default())
                })
            }

            fn schema(all: &mut $crate::output::json::format::described::Objects) -> serde_json::Value {
                use $crate::output::json::format::described::{Object, joined};
                if !all.contains_key(stringify!($name)) {
                    // An object may be a part of its own parts: this entry ends the recursion.
                    all.insert(stringify!($name), Object::default());
                    let (about, fields) = (joined(&[$($about),+]), Self::fields(all));
                    all.insert(stringify!($name), Object { about, fields });
                }
                serde_json::json!({"$ref": concat!("#/$defs/", stringify!($name))})
            }
        }
    };
}

/// Makes a line: a part with the fields that every line has. The text after the line's name says what `ts` is.
macro_rules! line {
    (
        $(#[doc = $about:literal])+
        $name:ident at $ts:literal {
            $($rest:tt)*
        }
    ) => {
        part! {
            $(#[doc = $about])+
            "" $name {
                /// The version of the format.
                v: u32,
                /// What the line is about.
                event: Name,
                #[doc = $ts]
                ts: Decimal,
                $($rest)*
            }
        }
    };
}

/// Makes the line of a call, with the fields that every call has.
macro_rules! call {
    (
        $(#[doc = $about:literal])+
        $name:ident {
            $($rest:tt)*
        }
    ) => {
        line! {
            $(#[doc = $about])+
            $name at "When it returned" {
                /// The process.
                pid: u32,
                /// The thread.
                tid: u32,
                /// When it was entered, on the same clock; null if that was not seen.
                entered: Option<Decimal>,
                /// `ts` - `entered`; null if `entered` is.
                duration_ns: Option<u64>,
                /// How the beginning of the call is known: `seen`; `before_attach`: the call began before aiotrace
                /// attached; `denied`: the thread has a seccomp filter and the kernel's AIO was never entered;
                /// `missed`: the entry should have been seen and was not, which is a loss (counted as
                /// `enter_missed`).
                entry: Name = ["seen", "before_attach", "denied", "missed"],
                /// What the kernel returned.
                ret: i64,
                /// Name of the errno in `ret`.
                errno: Option<Name>,
                /// `ret` is a fault made by aiotrace, not the kernel's answer. For a short io_submit: the kernel
                /// never looked at the other iocbs. false for a call that was only delayed.
                injected: bool,
                /// The rule that acted on the call, or would have; null if there is none.
                fault: Option<FaultObject>,
                $($rest)*
                /// The ring when the call returned; io_destroy: when it was entered; io_setup: always null. null if it
                /// could not be read.
                ring: Option<Ring>,
                /// `i386` (on x86-64) or `arm` (on arm64) for a 32-bit call; absent for the others.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                abi: Option<Name> = ["i386", "arm"],
            }
        }
    };
}

pub(super) use {call, line, part};

#[cfg(test)]
mod tests {
    use super::*;

    part! {
        /// An object that holds one value of each kind.
        "" Inner {
            /// how it went
            word: Option<Name> = ["good", "bad"],
            #[serde(default, skip_serializing_if = "Option::is_none")]
            abi: Option<u32>,
        }
    }

    part! {
        /// An object that holds other objects.
        "an outer one" Outer { inner: Vec<Option<Inner>>, outer: Option<Box<Outer>>, }
    }

    #[test]
    fn a_type_is_described_in_words_and_in_the_schema() {
        let words = Vec::<Option<Inner>>::words();
        assert_eq!(words.kind, "array of (object or null)");
        let fields = ": `word` string or null (how it went), `abi` number, or not there";
        assert_eq!(words.fields, fields);
        assert_eq!(Option::<Outer>::words().kind, "[an outer one](#an-outer-one) or null");

        let mut all = Objects::new();
        assert_eq!(Outer::schema(&mut all), json!({"$ref": "#/$defs/Outer"}));
        assert!(all.keys().eq(["Inner", "Outer"].iter()), "{all:?}");
        let inner = all["Inner"].schema();
        assert_eq!(inner["required"], json!(["word"]));
        assert_eq!(inner["properties"]["abi"]["type"], "integer", "it is never null");
        let word = json!({"type": ["string", "null"], "enum": ["good", "bad", null], "description": "how it went"});
        assert_eq!(inner["properties"]["word"], word);
        let outer = &all["Outer"].schema()["properties"]["outer"];
        assert_eq!(*outer, json!({"anyOf": [{"$ref": "#/$defs/Outer"}, {"type": "null"}]}));
    }
}
