//! A file of a table. Rows wait until there are many, or much text, and then go into a row group: the memory that this takes
//! is bounded, however long the recording is.

use std::{fs::File, io, path::Path, sync::Arc};

use parquet::{
    basic::Compression,
    data_type::{BoolType, ByteArray, ByteArrayType, Int64Type},
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};

use super::table::{Kind, Table};

/// Rows of a row group.
const ROWS: usize = 65_536;
/// Bytes of text in a row group; the row that exceeds them is the last.
const BYTES: usize = 16 << 20;

/// A value. A column gets those of its kind, or null.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Unknown, or nothing.
    Null,
    /// Text.
    Text(ByteArray),
    /// A number, or a time.
    Number(i64),
    /// Yes or no.
    Bool(bool),
}

impl Value {
    /// A text, as it is.
    pub fn text(it: &str) -> Self {
        Self::Text(it.as_bytes().to_vec().into())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(it: Option<T>) -> Self {
        it.map_or(Self::Null, Into::into)
    }
}

impl From<i64> for Value {
    fn from(it: i64) -> Self {
        Self::Number(it)
    }
}

impl From<u32> for Value {
    fn from(it: u32) -> Self {
        Self::Number(it.into())
    }
}

impl From<bool> for Value {
    fn from(it: bool) -> Self {
        Self::Bool(it)
    }
}

impl From<ByteArray> for Value {
    fn from(it: ByteArray) -> Self {
        Self::Text(it)
    }
}

impl From<&str> for Value {
    fn from(it: &str) -> Self {
        Self::text(it)
    }
}

impl From<String> for Value {
    fn from(it: String) -> Self {
        Self::Text(it.into_bytes().into())
    }
}

/// A count, which is not so large that it has another sign.
pub fn count(it: u64) -> Value {
    Value::Number(i64::try_from(it).unwrap_or(i64::MAX))
}

/// The values of a column that wait, and for each row 1, or 0 for null.
enum Waiting {
    Text(Vec<ByteArray>, Vec<i16>),
    Number(Vec<i64>, Vec<i16>),
    Bool(Vec<bool>, Vec<i16>),
}

impl Waiting {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text(Vec::new(), Vec::new()),
            Kind::Number | Kind::Unsigned | Kind::Time => Self::Number(Vec::new(), Vec::new()),
            Kind::Bool => Self::Bool(Vec::new(), Vec::new()),
        }
    }

    fn add(&mut self, value: Value) {
        match (self, value) {
            (Self::Text(values, levels), Value::Text(it)) => {
                values.push(it);
                levels.push(1);
            }
            (Self::Number(values, levels), Value::Number(it)) => {
                values.push(it);
                levels.push(1);
            }
            (Self::Bool(values, levels), Value::Bool(it)) => {
                values.push(it);
                levels.push(1);
            }
            (Self::Text(_, levels) | Self::Number(_, levels) | Self::Bool(_, levels), value) => {
                debug_assert_eq!(value, Value::Null, "the kind of a column");
                levels.push(0);
            }
        }
    }
}

/// A file that is being written.
pub struct TableFile {
    writer: SerializedFileWriter<File>,
    kinds: Vec<Kind>,
    waiting: Vec<Waiting>,
    rows: usize,
    bytes: usize,
}

impl TableFile {
    /// Creates a file, which must not be there.
    ///
    /// # Errors
    /// Those of the file.
    pub fn create(path: &Path, table: &Table) -> io::Result<Self> {
        let file = File::create_new(path)?;
        let schema = parse_message_type(&table.schema()).map_err(told)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("aiotrace ", env!("CARGO_PKG_VERSION")).to_owned());
        let writer =
            SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties.build()));
        let kinds: Vec<Kind> = table.all().map(|it| it.kind).collect();
        let waiting = kinds.iter().map(|it| Waiting::of(*it)).collect();
        Ok(Self { writer: writer.map_err(told)?, kinds, waiting, rows: 0, bytes: 0 })
    }

    /// Adds a row: a value for each column.
    ///
    /// # Errors
    /// Those of the file.
    pub fn row(&mut self, row: impl IntoIterator<Item = Value>) -> io::Result<()> {
        let mut values = row.into_iter();
        for column in &mut self.waiting {
            let value = values.next().unwrap_or(Value::Null);
            if let Value::Text(it) = &value {
                self.bytes += it.len();
            }
            column.add(value);
        }
        debug_assert!(values.next().is_none(), "a value for each column");
        self.rows += 1;
        if self.rows >= ROWS || self.bytes >= BYTES { self.write_group() } else { Ok(()) }
    }

    /// Writes what waits, and the end of the file.
    ///
    /// # Errors
    /// Those of the file.
    pub fn end(mut self) -> io::Result<()> {
        if self.rows > 0 {
            self.write_group()?;
        }
        self.writer.close().map_err(told)?;
        Ok(())
    }

    fn write_group(&mut self) -> io::Result<()> {
        (self.rows, self.bytes) = (0, 0);
        let new = self.kinds.iter().map(|it| Waiting::of(*it)).collect();
        let columns: Vec<Waiting> = std::mem::replace(&mut self.waiting, new);
        self.write(columns).map_err(told)
    }

    fn write(&mut self, columns: Vec<Waiting>) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for column in columns {
            let Some(mut writer) = group.next_column()? else { break };
            match &column {
                Waiting::Text(values, levels) => {
                    writer.typed::<ByteArrayType>().write_batch(values, Some(levels), None)?;
                }
                Waiting::Number(values, levels) => {
                    writer.typed::<Int64Type>().write_batch(values, Some(levels), None)?;
                }
                Waiting::Bool(values, levels) => {
                    writer.typed::<BoolType>().write_batch(values, Some(levels), None)?;
                }
            }
            writer.close()?;
        }
        group.close()?;
        Ok(())
    }
}

/// The error of the file, if that is what it is.
fn told(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(inner) => io::Error::other(inner),
        },
        other => io::Error::other(other),
    }
}
