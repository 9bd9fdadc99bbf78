//! Rates.

/// A token bucket: `per_s` tokens a second, at most one second's worth saved up.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    per_s: f64,
    tokens: f64,
    at_ms: u64,
}

impl Bucket {
    /// A full bucket.
    pub fn new(per_s: f64, now_ms: u64) -> Self {
        Self { per_s, tokens: per_s, at_ms: now_ms }
    }

    /// Tokens in the bucket; negative when more was taken than there was.
    pub fn tokens(&mut self, now_ms: u64) -> f64 {
        let since_ms = now_ms.saturating_sub(self.at_ms);
        self.tokens = (self.tokens + self.per_s * since_ms as f64 / 1000.0).min(self.per_s);
        self.at_ms = now_ms;
        self.tokens
    }

    /// Takes tokens, into debt if need be.
    pub fn take(&mut self, tokens: f64) {
        self.tokens -= tokens;
    }

    /// Milliseconds until there is at least one token.
    pub fn wait_ms(&self) -> u64 {
        ((1.0 - self.tokens).max(0.0) / self.per_s * 1000.0).ceil() as u64
    }

    /// Tokens per second.
    pub fn per_s(&self) -> f64 {
        self.per_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_worth_its_rate_and_no_more() {
        let mut bucket = Bucket::new(20.0, 0);
        bucket.take(20.0);
        assert_eq!(bucket.tokens(0), 0.0);
        assert_eq!(bucket.wait_ms(), 50);
        assert_eq!(bucket.tokens(500), 10.0);
        assert_eq!(bucket.tokens(60_000), 20.0);
        bucket.take(30.0);
        assert_eq!((bucket.tokens(60_000), bucket.wait_ms()), (-10.0, 550));
    }
}
