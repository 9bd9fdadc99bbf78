//! What the suite found.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shell::Failure;

/// What passes. NON-STRICT are texts that end in the middle of a wrong character, which may be refused with their frame
/// instead of at once; INFORMATIONAL are cases without a right answer.
const GOOD: [&str; 3] = ["OK", "NON-STRICT", "INFORMATIONAL"];
/// The server declined what the case is about.
const DECLINED: &str = "UNIMPLEMENTED";

/// The results of all cases.
#[derive(Debug, Default)]
pub struct Verdict {
    /// By the case's number.
    cases: BTreeMap<Vec<u32>, Case>,
}

#[derive(Debug, PartialEq, Eq)]
struct Case {
    behavior: String,
    close: String,
    is_good: bool,
}

impl Verdict {
    /// Reads the reports of all runs.
    pub fn read(reports: &[PathBuf], require_deflate: bool) -> Result<Self> {
        let mut verdict = Self::default();
        for path in reports {
            let read = || Ok(serde_json::from_str(&fs::read_to_string(path)?)?);
            let report = read().map_err(|error: anyhow::Error| error.context(path.display().to_string()))?;
            verdict.add(&report, require_deflate).with_context(|| format!("in {}", path.display()))?;
        }
        Ok(verdict)
    }

    fn add(&mut self, report: &Value, require_deflate: bool) -> Result<()> {
        let agents = report.as_object().context("a report names servers")?;
        for (number, found) in agents.values().filter_map(Value::as_object).flatten() {
            let text = |key: &str| {
                found[key].as_str().map(str::to_owned).with_context(|| format!("{number}: no {key}"))
            };
            let (behavior, close) = (text("behavior")?, text("behaviorClose")?);
            let is_declined = behavior == DECLINED && !require_deflate;
            let is_closed = ["OK", "INFORMATIONAL"].contains(&&*close) || (is_declined && close == DECLINED);
            let is_good = is_closed && (is_declined || GOOD.contains(&&*behavior));
            let number: Result<_, _> = number.split('.').map(str::parse).collect();
            self.cases.insert(number.context("the number of a case")?, Case { behavior, close, is_good });
        }
        Ok(())
    }

    /// Fails when a case has, and when there are not as many as there must be.
    pub fn into_result(self, count: usize) -> Result<()> {
        let failed = self.cases.values().filter(|case| !case.is_good).count();
        if self.cases.len() != count {
            let text = format!("{} cases were run, and {count} there are", self.cases.len());
            return Err(Failure::error(1, text));
        }
        if failed > 0 {
            return Err(Failure::error(1, format!("{failed} cases of the Autobahn test suite failed")));
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups: BTreeMap<u32, BTreeMap<&str, usize>> = BTreeMap::new();
        for (number, case) in &self.cases {
            *groups.entry(number[0]).or_default().entry(&case.behavior).or_default() += 1;
        }
        for (group, counts) in groups {
            let counts: Vec<_> =
                counts.into_iter().map(|(behavior, count)| format!("{count} {behavior}")).collect();
            writeln!(f, "cases {group:>2}.*  {}", counts.join(", "))?;
        }
        for (number, case) in self.cases.iter().filter(|(_, case)| !case.is_good) {
            let number: Vec<_> = number.iter().map(u32::to_string).collect();
            writeln!(f, "  {}: {}, close {}", number.join("."), case.behavior, case.close)?;
        }
        let failed = self.cases.values().filter(|case| !case.is_good).count();
        writeln!(f, "{} passed, {failed} failed", self.cases.len() - failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verdict(cases: &[(&str, &str, &str)], require_deflate: bool) -> Verdict {
        let case = |behavior: &str, close: &str| json!({"behavior": behavior, "behaviorClose": close});
        let cases: serde_json::Map<_, _> = cases
            .iter()
            .map(|(number, behavior, close)| ((*number).to_owned(), case(behavior, close)))
            .collect();
        let mut verdict = Verdict::default();
        verdict.add(&json!({"tickgate": cases}), require_deflate).unwrap();
        verdict
    }

    fn passes(behavior: &str, close: &str, require_deflate: bool) -> bool {
        verdict(&[("1.1.1", behavior, close)], require_deflate).into_result(1).is_ok()
    }

    #[test]
    fn what_passes() {
        for behavior in GOOD {
            assert!(passes(behavior, "OK", true) && passes(behavior, "INFORMATIONAL", true));
            assert!(!passes(behavior, "FAILED", true) && !passes(behavior, "WRONG CODE", true));
        }
        for behavior in ["FAILED", "WRONG CODE", "UNCLEAN", "FAILED BY CLIENT"] {
            assert!(!passes(behavior, "OK", false));
        }
        assert!(passes(DECLINED, DECLINED, false) && passes(DECLINED, "OK", false));
        assert!(!passes(DECLINED, "OK", true) && !passes("OK", DECLINED, true));
    }

    #[test]
    fn what_was_not_run_has_not_passed() {
        let cases = [("9.1.1", "OK", "OK"), ("10.1.1", "FAILED", "OK"), ("1.2.1", "OK", "OK")];
        let text = verdict(&cases, true).to_string();
        assert_eq!(
            text,
            "cases  1.*  1 OK\ncases  9.*  1 OK\ncases 10.*  1 FAILED\n  10.1.1: FAILED, close OK\n\
             2 passed, 1 failed\n"
        );
        let good = || verdict(&[("1.1.1", "OK", "OK")], true);
        assert!(good().into_result(1).is_ok() && good().into_result(2).is_err());
        assert!(Verdict::default().into_result(301).is_err());
    }
}
