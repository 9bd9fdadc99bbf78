//! What was recorded, and how what was counted compares with it.

use anyhow::Context as _;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// What the beginning of the file tells its readers.
const HEADER: &str = "\
# What the hot path costs: written by `cargo xtask bench instructions --bless`, which says what each is, and compared
# with by `cargo xtask bench instructions`. Not to be edited by hand.
";

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Instructions in user space, for one item.
    Instructions,
    /// Bytes on the wire.
    Bytes,
    /// Allocations of memory.
    Allocations,
}

/// Something that was counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    pub kind: Kind,
    pub name: String,
    pub value: f64,
}

/// Where figures were counted: other tools may give others.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Tools {
    pub rustc: String,
    pub profile: String,
    pub architecture: String,
    pub libc: String,
    pub valgrind: String,
}

/// What a file holds.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    pub with: Tools,
    #[serde(default)]
    instructions: BTreeMap<String, f64>,
    #[serde(default)]
    bytes: BTreeMap<String, f64>,
    #[serde(default)]
    allocations: BTreeMap<String, f64>,
}

/// How a figure compares with what was recorded of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    Same,
    /// More than is allowed.
    Grew,
    /// So much less that it should be recorded, or it may grow again unseen.
    Shrank,
    /// Not recorded yet.
    New,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Instructions, Self::Bytes, Self::Allocations];

    fn name(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::Bytes => "bytes",
            Self::Allocations => "allocations",
        }
    }

    /// By what part a figure may change: other kinds than instructions are the same every time.
    fn tolerance(self) -> f64 {
        match self {
            Self::Instructions => 0.03,
            Self::Bytes | Self::Allocations => 0.0,
        }
    }
}

impl Tools {
    /// Those of this machine, and what this program was built with.
    pub fn here() -> anyhow::Result<Self> {
        let said = |program: &str, words: &[&str]| -> anyhow::Result<String> {
            let output = Command::new(program).args(words).output();
            let output = output.with_context(|| format!("starting {program}"))?;
            Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned())
        };
        let program = std::env::current_exe()?;
        let profile = program.parent().and_then(Path::file_name).unwrap_or_default();
        Ok(Self {
            rustc: said("rustc", &["--version"])?,
            profile: profile.to_string_lossy().into_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            libc: said("getconf", &["GNU_LIBC_VERSION"])?,
            valgrind: said("valgrind", &["--version"])?,
        })
    }

    fn fields(&self) -> [(&'static str, &str); 5] {
        [
            ("rustc", &self.rustc),
            ("profile", &self.profile),
            ("architecture", &self.architecture),
            ("libc", &self.libc),
            ("valgrind", &self.valgrind),
        ]
    }

    /// What is another here than it was there.
    pub fn differences(&self, there: &Self) -> Vec<String> {
        let pairs = self.fields().into_iter().zip(there.fields());
        pairs
            .filter(|((_, here), (_, there))| here != there)
            .map(|((name, here), (_, there))| format!("{name} is {here:?} here and was {there:?}"))
            .collect()
    }
}

impl Recorded {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is not there or was edited to something else.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("{} cannot be read: `cargo xtask bench instructions --bless` writes it", path.display())
        })?;
        toml::from_str(&text).with_context(|| format!("{} is not as it was written", path.display()))
    }

    /// The text of a file with `figures`.
    pub fn text(with: &Tools, figures: &[Figure]) -> String {
        let mut text = format!("{HEADER}\n[with]\n");
        // Writing to a string cannot fail.
        for (name, value) in with.fields() {
            let _ = writeln!(text, "{name} = {value:?}");
        }
        for kind in Kind::ALL {
            let _ = writeln!(text, "\n[{}]", kind.name());
            for figure in figures.iter().filter(|figure| figure.kind == kind) {
                let _ = writeln!(text, "{:?} = {}", figure.name, figure.value);
            }
        }
        text
    }

    fn of(&self, kind: Kind) -> &BTreeMap<String, f64> {
        match kind {
            Kind::Instructions => &self.instructions,
            Kind::Bytes => &self.bytes,
            Kind::Allocations => &self.allocations,
        }
    }

    /// What was recorded of a figure, and how it compares.
    pub fn compare(&self, figure: &Figure) -> (Option<f64>, Verdict) {
        let Some(recorded) = self.of(figure.kind).get(&figure.name).copied() else {
            return (None, Verdict::New);
        };
        let allowed = recorded * figure.kind.tolerance();
        let verdict = if figure.value > recorded + allowed {
            Verdict::Grew
        } else if figure.value < recorded - allowed {
            Verdict::Shrank
        } else {
            Verdict::Same
        };
        (Some(recorded), verdict)
    }

    /// What was recorded and is not among `figures`.
    pub fn missing(&self, figures: &[Figure]) -> Vec<String> {
        let is_there = |kind, name: &str| figures.iter().any(|f| f.kind == kind && f.name == name);
        Kind::ALL
            .into_iter()
            .flat_map(|kind| self.of(kind).keys().map(move |name| (kind, name)))
            .filter(|(kind, name)| !is_there(*kind, name))
            .map(|(kind, name)| format!("{} of {name:?}", kind.name()))
            .collect()
    }
}

impl Figure {
    /// As tables have it.
    pub fn what(&self) -> String {
        format!("{} {}", self.name, self.kind.name())
    }

    /// The most that it may be where `recorded` was recorded.
    pub fn limit(&self, recorded: f64) -> f64 {
        recorded * (1.0 + self.kind.tolerance())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(kind: Kind, name: &str, value: f64) -> Figure {
        Figure { kind, name: name.to_owned(), value }
    }

    #[test]
    fn what_is_written_is_read_back_and_compared() {
        let figures = [
            figure(Kind::Instructions, "walk 10", 100.0),
            figure(Kind::Bytes, "trade", 220.0),
            figure(Kind::Allocations, "W1a pass", 0.0),
        ];
        let with = Tools { rustc: "rustc 1.95.0".to_owned(), ..Tools::default() };
        let recorded: Recorded = toml::from_str(&Recorded::text(&with, &figures)).unwrap();
        assert_eq!(recorded.with, with);
        let check = |kind, name, value, expected| {
            assert_eq!(recorded.compare(&figure(kind, name, value)).1, expected, "{name} {value}");
        };
        for (value, expected) in
            [(100.0, Verdict::Same), (103.0, Verdict::Same), (103.1, Verdict::Grew), (96.9, Verdict::Shrank)]
        {
            check(Kind::Instructions, "walk 10", value, expected);
        }
        check(Kind::Instructions, "walk 11", 1.0, Verdict::New);
        check(Kind::Bytes, "trade", 221.0, Verdict::Grew);
        check(Kind::Bytes, "trade", 219.0, Verdict::Shrank);
        check(Kind::Allocations, "W1a pass", 0.0, Verdict::Same);
        check(Kind::Allocations, "W1a pass", 0.01, Verdict::Grew);
        assert!(recorded.missing(&figures).is_empty());
        assert_eq!(recorded.missing(&figures[1..]), ["instructions of \"walk 10\""]);
    }

    #[test]
    fn differing_tools_are_named() {
        let there = Tools { libc: "glibc 2.36".to_owned(), ..Tools::default() };
        let here = Tools { libc: "glibc 2.41".to_owned(), ..Tools::default() };
        assert_eq!(here.differences(&there), ["libc is \"glibc 2.41\" here and was \"glibc 2.36\""]);
        assert!(here.differences(&here).is_empty());
    }
}
