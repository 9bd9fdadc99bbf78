//! The few metrics that are shown, out of Prometheus' text.

/// A scrape: name, labels as they stand, value.
#[derive(Debug, Clone, Default)]
pub(super) struct Scrape(Vec<(String, String, f64)>);

impl Scrape {
    /// Takes what it understands.
    pub fn new(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(line).collect())
    }

    /// A metric, summed over all that have this label, or over all.
    pub fn sum(&self, name: &str, label: Option<(&str, &str)>) -> Option<f64> {
        let mut values = self.values(name, &label.into_iter().collect::<Vec<_>>()).peekable();
        values.peek()?;
        Some(values.sum())
    }

    /// The largest of a metric's.
    pub fn max(&self, name: &str) -> Option<f64> {
        self.values(name, &[]).reduce(f64::max)
    }

    /// The one that has these labels.
    pub fn one(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.values(name, labels).next()
    }

    /// What a label says where a metric first stands.
    pub fn label(&self, name: &str, label: &str) -> Option<&str> {
        let (_, labels, _) = self.0.iter().find(|(of, ..)| of == name)?;
        labels.split_once(&format!("{label}=\""))?.1.split('"').next()
    }

    fn values<'a>(&'a self, name: &'a str, labels: &[(&str, &str)]) -> impl Iterator<Item = f64> + use<'a> {
        let wanted: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        self.0
            .iter()
            .filter(move |(of, labels, _)| of == name && wanted.iter().all(|wanted| labels.contains(wanted)))
            .map(|(.., value)| *value)
            .filter(|value| value.is_finite())
    }
}

fn line(line: &str) -> Option<(String, String, f64)> {
    // Values of labels may have spaces in them.
    let (name, labels, value) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, value) = rest.rsplit_once('}')?;
            (name, labels, value)
        }
        None => line.split_once(' ').map(|(name, value)| (name, "", value))?,
    };
    Some((name.to_owned(), labels.to_owned(), value.trim().parse().ok()?))
}

#[test]
fn sums_and_labels_are_found() {
    let text = "# HELP a b\n# TYPE a counter\na{x=\"1\",y=\"p q\"} 2\na{x=\"2\",y=\"p q\"} 3.5\nab 7\nc NaN\nbad\n\
                build{version=\"1.2\",profile=\"release\"} 1\n";
    let scrape = Scrape::new(text);
    assert_eq!(scrape.sum("a", None), Some(5.5));
    assert_eq!(scrape.sum("a", Some(("x", "2"))), Some(3.5));
    assert_eq!(scrape.one("a", &[("x", "1"), ("y", "p q")]), Some(2.0));
    assert_eq!((scrape.max("a"), scrape.sum("c", None), scrape.sum("none", None)), (Some(3.5), None, None));
    assert_eq!(scrape.label("build", "version"), Some("1.2"));
}
