//! The files of a report: looked at before the run, and written whole at its end or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Whether a report can be written to `path` later. Leaves nothing behind, and a report that is there as it is.
///
/// # Errors
/// When the folder is missing or cannot be written, or `path` is a folder or a file that may not be written.
pub fn check(path: &Path) -> io::Result<()> {
    let Some(target) = replaced(path)? else { return File::options().write(true).open(path).map(drop) };
    if target.exists() {
        File::options().write(true).open(&target)?;
    }
    let temporary = temporary(&target)?;
    File::create(&temporary)?;
    fs::remove_file(&temporary)
}

/// Writes `path` by `write`, in one step for whoever reads it: into a file beside it that takes its place when it is
/// complete. What is no regular file (a pipe, `/dev/stdout`) is written as it goes.
///
/// # Errors
/// When it cannot be written; then `path` is as it was before.
pub fn write(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let to = |file: File| {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.flush()
    };
    let Some(target) = replaced(path)? else { return to(File::options().write(true).open(path)?) };
    let temporary = temporary(&target)?;
    let written = File::create(&temporary).and_then(to).and_then(|()| fs::rename(&temporary, &target));
    if written.is_err() {
        // The error of writing is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Whether files can stand beside `path`: not so for a pipe or a device.
pub(crate) fn has_neighbours(path: &Path) -> bool {
    matches!(replaced(path), Ok(Some(_)))
}

/// The file that a report at `path` replaces, links followed; `None` for a device or a pipe.
fn replaced(path: &Path) -> io::Result<Option<PathBuf>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(metadata) if metadata.is_file() => fs::canonicalize(path).map(Some),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(path.to_owned())),
        Err(error) => Err(error),
    }
}

fn temporary(target: &Path) -> io::Result<PathBuf> {
    let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.tmp", std::process::id()));
    Ok(target.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tickgate-load-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn a_report_is_there_whole_or_not_at_all() {
        let folder = folder("whole");
        let path = folder.join("out.json");
        check(&path).unwrap();
        assert!(files(&folder).is_empty(), "a look leaves nothing behind");
        write(&path, |out| out.write_all(b"first")).unwrap();
        check(&path).unwrap();
        let broken = |out: &mut dyn Write| {
            out.write_all(b"half")?;
            out.flush()?;
            Err(io::ErrorKind::StorageFull.into())
        };
        assert_eq!(write(&path, broken).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        let link = folder.join("link.json");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write(&link, |out| out.write_all(b"second")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(files(&folder).len(), 2, "a link stays one, and nothing else is left");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_known_before() {
        let folder = folder("before");
        assert_eq!(check(&folder).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        let missing = folder.join("no/such/out.json");
        assert_eq!(check(&missing).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn devices_are_written_not_replaced() {
        use std::os::unix::fs::FileTypeExt as _;
        let null = Path::new("/dev/null");
        check(null).unwrap();
        write(null, |out| out.write_all(b"x")).unwrap();
        assert!(fs::metadata(null).unwrap().file_type().is_char_device());
    }
}
