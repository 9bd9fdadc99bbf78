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

/// So many within a span of time, all at once if need be, and then one after the other as time passes. One number long,
/// as every session has one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// When all that was taken would be over, had each its share of the time.
    over_us: u64,
}

impl Pace {
    /// Takes one, unless `most` of them within `span_ms` leave no room for it. With 0 there is always room.
    pub fn admit(&mut self, now_ms: u64, most: u32, span_ms: u64) -> bool {
        if most == 0 {
            return true;
        }
        let (now_us, span_us) = (now_ms * 1000, span_ms * 1000);
        let over_us = self.over_us.max(now_us) + span_us / u64::from(most);
        if over_us > now_us + span_us {
            return false;
        }
        self.over_us = over_us;
        true
    }

    /// Whether it is as if nothing had been taken.
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.over_us <= now_ms * 1000
    }
}

/// What a session gets a second at most.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// Bytes, as its client asked.
    pub bytes: Option<Bucket>,
    /// Updates, as its rights say.
    pub updates: Option<Bucket>,
}

/// Bytes that an update has at the least: so many for each that may be sent are never more updates than that.
const UPDATE_BYTES_MIN: usize = 96;

impl Rates {
    /// How many bytes may be written now.
    ///
    /// # Errors
    /// In how many milliseconds some may be.
    pub fn bytes_now(&mut self, now_ms: u64) -> Result<usize, u64> {
        let mut bytes_max = usize::MAX;
        for (bucket, each) in [(&mut self.bytes, 1), (&mut self.updates, UPDATE_BYTES_MIN)] {
            let Some(bucket) = bucket else { continue };
            let tokens = bucket.tokens(now_ms);
            if tokens < 1.0 {
                return Err(bucket.wait_ms().max(1));
            }
            bytes_max = bytes_max.min(tokens as usize * each);
        }
        Ok(bytes_max)
    }

    /// Takes what was written.
    pub fn take(&mut self, bytes: usize, updates: u64) {
        if let Some(bucket) = &mut self.bytes {
            bucket.take(bytes as f64);
        }
        if let Some(bucket) = &mut self.updates {
            bucket.take(updates as f64);
        }
    }

    /// Whether nothing is bounded.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_none() && self.updates.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_allows_a_burst_and_then_its_share() {
        let mut pace = Pace::default();
        let admitted = |pace: &mut Pace, now_ms| (0..100).filter(|_| pace.admit(now_ms, 20, 10_000)).count();
        assert_eq!(admitted(&mut pace, 7_000), 20);
        assert_eq!(admitted(&mut pace, 7_499), 0);
        assert_eq!(admitted(&mut pace, 7_500), 1);
        assert_eq!(admitted(&mut pace, 12_500), 10);
        assert_eq!(admitted(&mut pace, 60_000), 20);
        assert!(!pace.is_over(69_999) && pace.is_over(70_000));
        // Two a second are never too many.
        let mut pace = Pace::default();
        assert!((0..10_000).all(|n| pace.admit(500 * n, 20, 10_000)));
        assert!((0..10_000).all(|_| pace.admit(0, 0, 10_000)), "no limit");
    }

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
