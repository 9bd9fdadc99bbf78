//! Lines of a recorded file: plain, gzip, or the one member of a zip archive, read as a stream.

use super::ReplayError;
use flate2::CrcReader;
use flate2::read::{DeflateDecoder, MultiGzDecoder};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use zip::CompressionMethod;

/// Longest line that is read: the largest real frame seen has 0.7 MB.
pub const LINE_BYTES_MAX: usize = 16 << 20;
const BUFFER_BYTES: usize = 128 << 10;
/// How much of a line an error message shows.
const SHOWN_BYTES: usize = 80;

/// Reads a file line by line and knows where it is.
pub(crate) struct Lines {
    path: PathBuf,
    input: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    number: u64,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("path", &self.path)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Lines {
    pub(crate) fn open(path: &Path) -> Result<Self, ReplayError> {
        let input = input(path).map_err(|source| ReplayError::Open { path: path.to_owned(), source })?;
        let input: Box<dyn BufRead + Send> = Box::new(BufReader::with_capacity(BUFFER_BYTES, input));
        Ok(Self { path: path.to_owned(), input, line: Vec::new(), number: 0 })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The beginning of the first line, without taking it.
    pub(crate) fn peek(&mut self) -> Result<&[u8], ReplayError> {
        let number = self.number + 1;
        let path = &self.path;
        let chunk = self.input.fill_buf().map_err(|source| ReplayError::Read {
            path: path.clone(),
            line: number,
            source,
        })?;
        Ok(chunk.split(|byte| *byte == b'\n').next().unwrap_or_default())
    }

    /// Moves on to the next line that is not blank; `false` at the end.
    pub(crate) fn advance(&mut self) -> Result<bool, ReplayError> {
        loop {
            self.line.clear();
            self.number += 1;
            let mut limited = (&mut self.input).take(LINE_BYTES_MAX as u64 + 1);
            let read = limited.read_until(b'\n', &mut self.line).map_err(|source| ReplayError::Read {
                path: self.path.clone(),
                line: self.number,
                source,
            })?;
            if read > LINE_BYTES_MAX {
                return Err(self.expected(format!("a line of at most {LINE_BYTES_MAX} bytes")));
            }
            while matches!(self.line.last(), Some(b'\n' | b'\r')) {
                self.line.pop();
            }
            if read == 0 || !self.line.is_empty() {
                return Ok(read > 0);
            }
        }
    }

    /// The present line, without its end.
    pub(crate) fn line(&self) -> &[u8] {
        &self.line
    }

    /// The error that the present line is not what was expected.
    pub(crate) fn expected(&self, expected: impl Into<String>) -> ReplayError {
        let shown = &self.line[..self.line.len().min(SHOWN_BYTES)];
        let more = if self.line.len() > SHOWN_BYTES { "…" } else { "" };
        ReplayError::Format {
            path: self.path.clone(),
            line: self.number,
            expected: expected.into(),
            found: format!("{}{more}", readable(shown)),
        }
    }
}

/// Text as it is; what is none, or would move the cursor of a terminal, as escapes.
fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
        }
        chunk.invalid().iter().for_each(|byte| text.extend(byte.escape_ascii().map(char::from)));
    }
    text
}

fn input(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    let mut file = File::open(path)?;
    let mut magic = [0u8; 4];
    let read = file.read(&mut magic)?;
    file.rewind()?;
    match &magic[..read] {
        [0x1f, 0x8b, ..] => Ok(Box::new(MultiGzDecoder::new(BufReader::new(file)))),
        b"PK\x03\x04" => zip_member(file),
        _ => Ok(Box::new(file)),
    }
}

/// The only file of an archive. Its place is looked up in the directory, then it is read without the archive: a member that
/// borrows the archive could not be kept in a struct.
fn zip_member(mut file: File) -> io::Result<Box<dyn Read + Send>> {
    let mut archive = zip::ZipArchive::new(BufReader::new(&file))?;
    if archive.len() != 1 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("an archive of one file was expected, this one holds {}", archive.len()),
        ));
    }
    let member = archive.by_index_raw(0)?;
    let (method, bytes, crc) = (member.compression(), member.compressed_size(), member.crc32());
    let start = member.data_start().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "the archive does not say where its file starts")
    })?;
    drop(member);
    drop(archive);
    file.seek(SeekFrom::Start(start))?;
    let raw = BufReader::new(file.take(bytes));
    match method {
        CompressionMethod::Stored => Ok(Box::new(Checked { inner: CrcReader::new(raw), crc })),
        CompressionMethod::Deflated => {
            Ok(Box::new(Checked { inner: CrcReader::new(DeflateDecoder::new(raw)), crc }))
        }
        other => Err(io::Error::new(io::ErrorKind::Unsupported, format!("zip compression {other}"))),
    }
}

/// Compares the checksum at the end: a damaged archive is an error, not the end of the data.
struct Checked<R> {
    inner: CrcReader<R>,
    crc: u32,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read == 0 && !buffer.is_empty() && self.inner.crc().sum() != self.crc {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the checksum of the archive does not match",
            ));
        }
        Ok(read)
    }
}
