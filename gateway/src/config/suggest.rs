//! "Did you mean …": the known name nearest to an unknown one.

/// The candidate that `given` most likely meant, if one is near enough.
pub(super) fn nearest<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given = normal(given);
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let given_last = last(&given);
    candidates
        .filter_map(|candidate| {
            let known = normal(candidate);
            // The right name in the wrong section is as near as one typing error.
            let whole = distance(&given, &known);
            let part = distance(&given_last, &last(&known)) + 1;
            let best = whole.min(part);
            let room = if whole <= part { known.len() } else { last(&known).len() };
            (best <= 1 + room / 4).then_some((best, whole, candidate))
        })
        .min()
        .map(|(_, _, candidate)| candidate)
}

/// Letters alone decide: `kafka__brokers`, `kafka-brokers` and `KAFKA.BROKERS` are the same attempt.
fn normal(name: &str) -> String {
    name.to_lowercase().replace("__", ".").replace('-', "_")
}

/// Edits (insert, delete, replace, swap of neighbours) between two names.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Names come from outside: a very long one resembles nothing.
    if a.len() > 128 || b.len() > 128 {
        return usize::MAX / 2;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, of_a) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, of_b) in b.iter().enumerate() {
            let replace = last[j] + usize::from(of_a != of_b);
            let mut best = replace.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *of_a == b[j - 1] && a[i - 1] == *of_b {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_or_none() {
        let known = [
            "kafka.brokers",
            "outbox.bytes_max",
            "outbox.write_bytes_max",
            "listen",
            "limits.message_bytes_max",
        ];
        for (given, expected) in [
            ("outbox.byte_max", Some("outbox.bytes_max")),
            ("bytes_max", Some("outbox.bytes_max")),
            ("kafka.borkers", Some("kafka.brokers")),
            ("brokers", Some("kafka.brokers")),
            ("KAFKA__BROKERS", Some("kafka.brokers")),
            ("lisen", Some("listen")),
            ("tls.certificate", None),
            ("x", None),
        ] {
            assert_eq!(nearest(given, known.into_iter()), expected, "{given}");
        }
    }
}
