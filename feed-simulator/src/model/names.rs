//! Made-up names for symbols beyond the well-known ones.

/// All words of `length` capital letters, each once, in a scattered but fixed order.
pub(crate) fn letters(length: u32) -> impl Iterator<Item = String> {
    let words = 26u64.pow(length);
    (0..words).map(move |i| {
        // A prime that 26 does not share a factor with visits every word once.
        let mut rest = (i * 78_977 + 12_345) % words;
        (0..length)
            .map(|_| {
                let letter = char::from(b'A' + (rest % 26) as u8);
                rest /= 26;
                letter
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn every_word_comes_once() {
        assert_eq!(super::letters(2).collect::<HashSet<_>>().len(), 26 * 26);
    }
}
