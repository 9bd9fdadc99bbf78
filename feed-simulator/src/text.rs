//! Numbers for people.

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Records per second: `12,346`, and `2.5` where whole numbers would say too little.
pub fn rate(per_s: f64) -> String {
    if per_s < 99.95 { format!("{per_s:.1}") } else { grouped(per_s.round() as u64) }
}

/// Nanoseconds as milliseconds.
pub fn millis(ns: u64) -> String {
    format!("{:.2} ms", ns as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(super::grouped(number), text);
        }
    }

    #[test]
    fn slow_rates_have_a_decimal() {
        assert_eq!(
            [0.0, 2.54, 99.94, 99.96, 12_345.6].map(super::rate),
            ["0.0", "2.5", "99.9", "100", "12,346"]
        );
    }
}
