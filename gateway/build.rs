//! Puts the live page into the program, as it was built: `dashboards/web/dist`, which is empty where nobody has.

use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

const DIST: &str = "../dashboards/web/dist";

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join(DIST);
    println!("cargo::rerun-if-changed={DIST}");
    let mut files = Vec::new();
    if root.is_dir() {
        find(&root, &mut files)?;
    }
    files.sort();
    let mut text = String::from("static ASSETS: &[Asset] = &[\n");
    for file in files {
        let name = file.strip_prefix(&root).unwrap_or(&file).to_string_lossy().into_owned();
        let is_variant =
            |ending: &str| name.strip_suffix(ending).is_some_and(|plain| root.join(plain).exists());
        // Of Git, and not of the page.
        if name.starts_with('.') || is_variant(".gz") || is_variant(".br") {
            continue;
        }
        let path = if name == "index.html" { "/".to_owned() } else { format!("/{name}") };
        let bytes = fs::read(&file)?;
        let (gzip, brotli) = (variant(&file, "gz"), variant(&file, "br"));
        let _ = writeln!(
            text,
            "    Asset {{ path: {path:?}, tag: \"\\\"{:016x}\\\"\", plain: include_bytes!({file:?}), gzip: {gzip}, brotli: {brotli} }},",
            tag(&bytes)
        );
    }
    text.push_str("];\n");
    fs::write(PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("page.rs"), text)
}

fn find(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// The expression of a file that was compressed beforehand.
fn variant(file: &Path, ending: &str) -> String {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    let path = PathBuf::from(name);
    if path.exists() { format!("Some(include_bytes!({path:?}))") } else { "None".to_owned() }
}

/// What tells one content from another.
fn tag(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
