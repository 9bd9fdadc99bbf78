//! Captures trades into a Parquet file, in the columns that the Python client's captures have.
//!
//! Rows are written as soon as a row group is full, so that it takes no more memory however long it runs. The file has its name when it
//! is whole: until then, `.part` stands behind it.

mod common;

use clap::Parser;
use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tickgate_client::event::{Side, Trade};
use tickgate_client::{Event, Subscription};

/// Times are nanoseconds since the Unix epoch, prices and sizes the nearest doubles.
const SCHEMA: &str = "message trades {
    REQUIRED BYTE_ARRAY symbol (STRING);
    REQUIRED DOUBLE price;
    REQUIRED DOUBLE size;
    OPTIONAL BYTE_ARRAY side (STRING);
    OPTIONAL BYTE_ARRAY trade_id (STRING);
    OPTIONAL BYTE_ARRAY venue (STRING);
    OPTIONAL BYTE_ARRAY conditions (STRING);
    REQUIRED BYTE_ARRAY seq (STRING);
    REQUIRED INT64 event_time (TIMESTAMP(NANOS, true));
    REQUIRED INT64 ingest_time (TIMESTAMP(NANOS, true));
    REQUIRED INT64 received_time (TIMESTAMP(NANOS, true));
    OPTIONAL INT64 send_time (TIMESTAMP(NANOS, true));
    OPTIONAL BYTE_ARRAY prev (STRING);
    REQUIRED INT64 merged;
    REQUIRED BOOLEAN snapshot;
    REQUIRED BOOLEAN replay;
}";

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: common::Args,
    /// The file
    #[arg(long, default_value = "trades.parquet")]
    out: PathBuf,
    /// Rows of a row group, which are kept in memory until they are written
    #[arg(long, default_value_t = 65_536)]
    rows: usize,
}

#[tokio::main]
async fn main() -> Result<ExitCode, common::Failure> {
    let args: Options = common::args("Captures trades into a Parquet file");
    // Before anything comes that could not be written.
    let mut table = match Table::create(&args.out, args.rows) {
        Ok(table) => table,
        Err(error) => {
            eprintln!("Error: {error:?}");
            return Ok(ExitCode::from(2));
        }
    };
    let mut listening = args.common.listen("trades", vec![Subscription::trades(&args.common.symbols)])?;
    while let Some(event) = listening.next().await {
        if let Event::Trade(trade) = event {
            // While it writes, the client goes on to read as far as its queue has room.
            table.add(trade)?;
        }
    }
    let count = table.count();
    if table.close(&args.out)? {
        println!("{count} trades, {}", common::gaps(&listening.live.stats()));
        println!("written to {}", args.out.display());
    } else {
        eprintln!("no trade came, and nothing is written");
    }
    Ok(listening.exit())
}

/// A Parquet file of trades. What is not whole when it is dropped is taken away.
struct Table {
    part: PathBuf,
    writer: SerializedFileWriter<File>,
    rows_max: usize,
    /// Those of the row group that is not full yet.
    rows: Vec<Trade>,
    written: usize,
}

impl Table {
    fn create(path: &Path, rows_max: usize) -> Result<Self, common::Failure> {
        if path.is_dir() {
            return Err(format!("cannot write {}: it is a folder", path.display()).into());
        }
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file =
            File::create(&part).map_err(|error| format!("cannot write {}: {error}", part.display()))?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer =
            SerializedFileWriter::new(file, Arc::new(parse_message_type(SCHEMA)?), Arc::new(properties))?;
        Ok(Self { part, writer, rows_max: rows_max.max(1), rows: Vec::new(), written: 0 })
    }

    fn count(&self) -> usize {
        self.written + self.rows.len()
    }

    fn add(&mut self, trade: Trade) -> Result<(), ParquetError> {
        self.rows.push(trade);
        if self.rows.len() >= self.rows_max {
            self.write()?;
            eprintln!("{} trades so far", self.written);
        }
        Ok(())
    }

    /// Ends the file and gives it its name, if it has a row; says whether it has.
    fn close(mut self, path: &Path) -> Result<bool, common::Failure> {
        if self.count() == 0 {
            return Ok(false);
        }
        self.write()?;
        self.writer.finish()?;
        std::fs::rename(&self.part, path)?;
        Ok(true)
    }

    /// Writes a row group, column by column, in the order of [`SCHEMA`].
    fn write(&mut self) -> Result<(), ParquetError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut row_group = self.writer.next_row_group()?;
        let group = &mut row_group;
        let rows = &self.rows;
        let text = |text: &Option<Box<str>>| text.as_deref().map(ByteArray::from);
        let position = |position: tickgate_client::Position| ByteArray::from(&*position.to_string());
        required::<ByteArrayType>(group, rows, |row| ByteArray::from(&*row.symbol))?;
        required::<DoubleType>(group, rows, |row| row.price.to_f64())?;
        required::<DoubleType>(group, rows, |row| row.size.to_f64())?;
        optional::<ByteArrayType>(group, rows, |row| row.side.map(side))?;
        optional::<ByteArrayType>(group, rows, |row| text(&row.trade_id))?;
        optional::<ByteArrayType>(group, rows, |row| text(&row.venue))?;
        optional::<ByteArrayType>(group, rows, |row| text(&row.conditions))?;
        required::<ByteArrayType>(group, rows, |row| position(row.meta.seq))?;
        required::<Int64Type>(group, rows, |row| row.meta.event_ns)?;
        required::<Int64Type>(group, rows, |row| row.meta.ingest_ns)?;
        required::<Int64Type>(group, rows, |row| row.meta.received_ns)?;
        optional::<Int64Type>(group, rows, |row| row.meta.send_ns)?;
        optional::<ByteArrayType>(group, rows, |row| row.meta.prev.map(position))?;
        required::<Int64Type>(group, rows, |row| row.meta.merged.into())?;
        required::<BoolType>(group, rows, |row| row.meta.snapshot)?;
        required::<BoolType>(group, rows, |row| row.meta.replay)?;
        row_group.close()?;
        self.written += self.rows.len();
        self.rows.clear();
        Ok(())
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // A whole one has another name by now.
        let _ = std::fs::remove_file(&self.part);
    }
}

fn side(side: Side) -> ByteArray {
    ByteArray::from(match side {
        Side::Buy => "buy",
        Side::Sell => "sell",
    })
}

/// The next column, of which every row has a value.
fn required<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    rows: &[Trade],
    value: impl Fn(&Trade) -> T::T,
) -> Result<(), ParquetError> {
    column::<T>(group, &rows.iter().map(value).collect::<Vec<_>>(), None)
}

/// The next column, of which only some rows have a value.
fn optional<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    rows: &[Trade],
    value: impl Fn(&Trade) -> Option<T::T>,
) -> Result<(), ParquetError> {
    let values: Vec<Option<T::T>> = rows.iter().map(value).collect();
    let is_there: Vec<i16> = values.iter().map(|value| value.is_some().into()).collect();
    column::<T>(group, &values.into_iter().flatten().collect::<Vec<_>>(), Some(&is_there))
}

fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
    is_there: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let end = || ParquetError::General("there are more columns than the schema has".to_owned());
    let mut column = group.next_column()?.ok_or_else(end)?;
    column.typed::<T>().write_batch(values, is_there, None)?;
    column.close()
}
