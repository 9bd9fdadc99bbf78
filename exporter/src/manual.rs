//! `docs/metrics-load.md`, made out of catalogs: each program has a chapter, which a test of it keeps.

use crate::catalog::Metric;
use crate::page::{EDGES_NS, QUANTILES};
use std::fmt::Write as _;

/// The document `text` as it should be by the `catalog` of `program`; the chapters of others stay as they are.
pub fn with_catalog(text: &str, program: &str, catalog: &[Metric]) -> String {
    let others = text.find("\n## ").map_or("", |at| &text[at + 1..]);
    with_chapter(&format!("{}\n{others}", introduction()), program, &chapter(program, catalog))
}

/// The chapter of `program`: a heading, and a table of all its metrics.
fn chapter(program: &str, catalog: &[Metric]) -> String {
    let mut text = format!("## {program}\n\n| name | type | unit | label | what |\n|---|---|---|---|---|\n");
    for Metric { name, kind, unit, label, help } in catalog {
        let label = label.map_or_else(String::new, |label| {
            let values: Vec<_> = label.values.iter().map(|value| format!("`{value}`")).collect();
            format!("`{}`: {}", label.name, values.join(", "))
        });
        let _ = writeln!(text, "| `{name}` | {} | {unit} | {label} | {help} |", kind.name());
    }
    text
}

/// `text` with the chapter of `program` in place of the one that it has, or behind all others.
fn with_chapter(text: &str, program: &str, chapter: &str) -> String {
    let head = format!("## {program}\n");
    let Some(start) = text.find(&head) else { return format!("{}\n\n{chapter}", text.trim_end()) };
    let rest = &text[start + head.len()..];
    match rest.find("\n## ") {
        Some(end) => format!("{}{chapter}{}", &text[..start], &rest[end..]),
        None => format!("{}{chapter}", &text[..start]),
    }
}

/// What stands before the chapters.
fn introduction() -> String {
    let edges: Vec<_> = EDGES_NS.iter().map(|edge| (*edge as f64 / 1e9).to_string()).collect();
    let quantiles: Vec<_> = QUANTILES.iter().map(|(_, label)| *label).collect();
    format!(
        "\
# Metrics of the load programs

What `tickgate-load run` and `tickgate-sim run` and `replay` say at `http://ADDR/metrics` with `--metrics ADDR`, and the dashboard
**Load test** shows ([dashboards](../dashboards/README.md)). Made from their catalogs, `loadgen/src/metrics.rs` and
`feed-simulator/src/metrics.rs`:

```sh
TICKGATE_TEST_BLESS=1 cargo test -p tickgate-load -p tickgate-sim --test metrics
```

Quantiles (`q`: {}, which is the maximum) are over the last {} seconds, or since the last scrape when that is longer ago. They
do not add up over processes; the buckets of histograms do, with the edges {} seconds, which are the gateway's. A page is
at most half a second old when it is given.
",
        quantiles.join(", "),
        crate::window::Window::LENGTH.as_secs(),
        edges.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{QUANTILE, counter, gauge};

    const CATALOG: &[Metric] = &[
        counter("tickgate_x_ticks_total", "ticks", None, "Ticks."),
        gauge("tickgate_x_late_seconds", "seconds", Some(QUANTILE), "How late."),
    ];

    #[test]
    fn a_chapter_replaces_its_own_and_no_other() {
        let (one, two) = (chapter("one", CATALOG), chapter("two", &CATALOG[..1]));
        assert!(one.contains("| `tickgate_x_late_seconds` | gauge | seconds | `q`: `0.5`, "), "{one}");
        let text = with_chapter(&with_chapter("# All\n", "one", &one), "two", &two);
        assert_eq!(text, format!("# All\n\n{one}\n{two}"));
        let document = with_catalog(&with_catalog("", "one", CATALOG), "two", &CATALOG[..1]);
        assert_eq!(document, format!("{}\n{one}\n{two}", introduction()));
        assert_eq!(with_catalog(&document, "one", CATALOG), document);
        for (program, same) in [("one", &one), ("two", &two)] {
            assert_eq!(with_chapter(&text, program, same), text);
        }
        assert_eq!(
            with_chapter(&text, "one", &chapter("one", &[])),
            format!("# All\n\n{}\n{two}", chapter("one", &[]))
        );
    }
}
