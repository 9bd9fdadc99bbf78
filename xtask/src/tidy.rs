//! Rules of the house that no lint knows.
//!
//! Each rule has a name; a file that has a reason to break one says so in a comment with the rule's name in it:
//! `tidy: allow(sleep) because …`, on the line or the one above; for `length` in the first lines of the file.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Longest source file, in lines before its unit tests: one noun fits.
const FILE_LINES_MAX: usize = 600;
/// How far from its top a file may say why it is longer.
const HEADER_LINES: usize = 40;

/// Looks at every file that git tracks.
///
/// # Errors
/// All findings, one per line.
pub fn check() -> Result<()> {
    let root = shell::root();
    let listing = shell::output(Command::new("git").args(["ls-files", "-z"]).current_dir(root))
        .context("`git ls-files` failed: is this a git checkout?")?;
    let mut findings = Vec::new();
    for name in listing.split('\0').filter(|name| !name.is_empty()) {
        // Not text, or deleted and not committed yet: nothing to look at.
        let Ok(text) = fs::read_to_string(root.join(name)) else { continue };
        findings.extend(inspect(name, &text));
    }
    if findings.is_empty() {
        return Ok(());
    }
    bail!("{} finding(s)\n{}", findings.len(), findings.join("\n"));
}

/// What is wrong with the file `name`.
fn inspect(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    let is_rust = name.ends_with(".rs");
    let is_test = is_rust && (name.contains("/tests/") || name.ends_with("/tests.rs"));

    let own_lines = lines.iter().position(|line| *line == "#[cfg(test)]").unwrap_or(lines.len());
    let header = &lines[..lines.len().min(HEADER_LINES)];
    if is_rust && !is_test && own_lines > FILE_LINES_MAX && !allowed("length", header) {
        findings.push(format!("{name}: length: {own_lines} lines before its tests, over {FILE_LINES_MAX}"));
    }
    for (index, line) in lines.iter().enumerate() {
        let around = &lines[index.saturating_sub(1)..=index];
        for (rule, what) in rules(line, is_rust, is_test) {
            if !allowed(rule, around) {
                findings.push(format!("{name}:{}: {rule}: {what}", index + 1));
            }
        }
    }
    findings
}

/// The rules that one line breaks.
fn rules(line: &str, is_rust: bool, is_test: bool) -> Vec<(&'static str, String)> {
    let mut broken = Vec::new();
    // In halves, so that this file keeps the rules itself.
    let sleeps = [concat!("thread::", "sleep("), concat!("time::", "sleep("), concat!("time::", "sleep;")];
    if is_test && sleeps.iter().any(|sleep| line.contains(sleep)) {
        broken.push((
            "sleep",
            "tests wait for what they expect, with a bound, not for time to pass".to_owned(),
        ));
    }
    if is_rust && line.contains(concat!("#[", "ignore")) {
        broken.push(("ignore", "a test runs or is removed".to_owned()));
    }
    for dir in [concat!("/", "work/"), concat!("/", "root/"), concat!("/", "home/")] {
        if has_path(line, dir) {
            broken.push(("path", format!("{dir}… is a path of one machine")));
        }
    }
    for host in [
        concat!("index.", "crates.io"),
        concat!("static.", "crates.io"),
        concat!("repo1.", "maven.org"),
        concat!("repo.", "maven.apache.org"),
        concat!("deb.", "debian.org"),
        concat!("registry.", "npmjs.org"),
        concat!("proxy.", "golang.org"),
        concat!("//", "pypi.org"),
    ] {
        if line.contains(host) {
            broken.push(("host", format!("{host}: the clients know their registries")));
        }
    }
    broken
}

/// Whether `dir` is in the line as the start of a path, not in the middle of a longer one.
fn has_path(line: &str, dir: &str) -> bool {
    line.match_indices(dir).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~})*".contains(c))
    })
}

fn allowed(rule: &str, lines: &[&str]) -> bool {
    lines.iter().any(|line| line.contains(&format!("tidy: allow({rule})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules that `text` breaks as a file called `name`.
    fn broken(name: &str, text: &str) -> Vec<String> {
        let rule = |finding: String| finding.split(": ").nth(1).unwrap_or_default().to_owned();
        inspect(name, text).into_iter().map(rule).collect()
    }

    #[test]
    fn files_have_a_length() {
        let long = "fn f() {}\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(broken("a/src/b.rs", &long), ["length"]);
        assert_eq!(broken("a/tests/b.rs", &long), [""; 0]);
        assert_eq!(broken("a/b.md", &long), [""; 0]);
        assert_eq!(broken("a/src/b.rs", &format!("// tidy: allow(length) a table\n{long}")), [""; 0]);
        let mostly_tests = format!("fn f() {{}}\n#[cfg(test)]\n{long}");
        assert_eq!(broken("a/src/b.rs", &mostly_tests), [""; 0]);
    }

    #[test]
    fn tests_do_not_sleep() {
        let sleep = concat!("    tokio::time::", "sleep(pause).await;");
        assert_eq!(broken("a/tests/b.rs", sleep), ["sleep"]);
        assert_eq!(broken("a/src/b.rs", sleep), [""; 0]);
        assert_eq!(broken("a/tests/b.rs", &format!("// tidy: allow(sleep) paused clock\n{sleep}")), [""; 0]);
        assert_eq!(broken("a/tests/b.rs", &format!("// tidy: allow(length) no\n{sleep}")), ["sleep"]);
    }

    #[test]
    fn tests_are_not_ignored() {
        assert_eq!(broken("a/src/b.rs", concat!("#[", "ignore = \"slow\"]")), ["ignore"]);
    }

    #[test]
    fn nothing_names_a_machine() {
        let check = |line: &str, expected: &[&str]| assert_eq!(broken("a.md", line), expected, "{line}");
        check(concat!("see /", "home/ann/x"), &["path"]);
        check(concat!("(`/", "root/x`)"), &["path"]);
        check(concat!("tree/", "root/x, ../", "work/x, ~/", "work/"), &[]);
        check(concat!("https://static.", "crates.io/x"), &["host"]);
    }

    /// What docs/security.md says that a test attacks is attacked by a test.
    #[test]
    fn every_test_that_a_threat_is_held_by_is_there() {
        let tests = shell::root().join("gateway/tests");
        let text = fs::read_to_string(shell::root().join("docs/security.md")).unwrap();
        let is_name =
            |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte));
        let mut found = 0;
        for named in text.split('`').skip(1).step_by(2) {
            let Some((file, test)) =
                named.split_once("::").filter(|(file, test)| is_name(file) && is_name(test))
            else {
                continue;
            };
            if (file, test) == ("file", "test") {
                continue;
            }
            let folder =
                fs::read_dir(tests.join(file)).into_iter().flatten().flatten().map(|entry| entry.path());
            let code: String = folder
                .chain([&tests, &tests.join("sockets")].map(|folder| folder.join(format!("{file}.rs"))))
                .filter_map(|path| fs::read_to_string(path).ok())
                .collect();
            assert!(code.contains(&format!("fn {test}(")), "there is no test {named}");
            found += 1;
        }
        assert!(found > 30, "{found}");
    }
}
