//! Which of a question's wants a symbol is for, without going through all of them: there may be thousands, and a client may
//! want a pattern beside them, that means as many symbols.

use super::Missed;
use crate::feed::request::Target;
use rustc_hash::FxHashMap;
use tickgate_protocol::Channel;

/// The wants of a question by what they name: a look for the symbol itself, and one for each length that its prefixes have.
#[derive(Debug)]
pub struct Wants<'a> {
    all: &'a [Missed],
    names: FxHashMap<(Channel, &'a str), usize>,
    prefixes: FxHashMap<(Channel, &'a [u8]), usize>,
    /// Of the prefixes, each once.
    lengths: Vec<usize>,
}

impl<'a> Wants<'a> {
    /// Those of a question, in its order.
    pub fn new(wants: &'a [Missed]) -> Self {
        let mut all = Self {
            all: wants,
            names: FxHashMap::default(),
            prefixes: FxHashMap::default(),
            lengths: Vec::new(),
        };
        for (at, want) in wants.iter().enumerate() {
            let channel = want.stream.channel;
            match &want.target {
                Target::Symbol(name) => all.names.entry((channel, name)).or_insert(at),
                Target::Prefix(prefix) => {
                    all.lengths.push(prefix.len());
                    all.prefixes.entry((channel, prefix.as_bytes())).or_insert(at)
                }
            };
        }
        all.lengths.sort_unstable();
        all.lengths.dedup();
        all
    }

    /// The place of the first want that means a symbol's channel.
    pub fn of(&self, channel: Channel, name: &str) -> Option<usize> {
        step();
        let exact = self.names.get(&(channel, name)).copied();
        exact.into_iter().chain(self.prefix(channel, name)).min()
    }

    /// That want.
    pub fn first(&self, channel: Channel, name: &str) -> Option<&'a Missed> {
        self.of(channel, name).map(|at| &self.all[at])
    }

    /// The same, if that is one of a prefix.
    pub fn prefix_of(&self, channel: Channel, name: &str) -> Option<usize> {
        step();
        let exact = self.names.get(&(channel, name));
        self.prefix(channel, name).filter(|prefix| exact.is_none_or(|exact| prefix < exact))
    }

    fn prefix(&self, channel: Channel, name: &str) -> Option<usize> {
        let prefixes = self.lengths.iter().map_while(|length| name.as_bytes().get(..*length));
        let places = prefixes.filter_map(|prefix| {
            step();
            self.prefixes.get(&(channel, prefix)).copied()
        });
        places.min()
    }
}

/// A name is compared.
#[inline]
fn step() {
    #[cfg(test)]
    super::STEPS.with(|steps| steps.set(steps.get() + 1));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Stream;

    #[test]
    fn the_first_want_of_a_symbol_is_found() {
        let of = |(text, channel)| Missed {
            target: Target::parse(text),
            stream: Stream::whole(channel),
            after: None,
        };
        let wants = [
            ("BTC-USD", Channel::Trades),
            ("\u{e4}*", Channel::Trades),
            ("BTC-*", Channel::Trades),
            ("BTC*", Channel::Trades),
            ("BTC*", Channel::Trades),
            ("*", Channel::Quotes),
            ("B*", Channel::Trades),
            // Never in that order, but whatever it is, it counts.
            ("BTC-EUR", Channel::Trades),
        ]
        .map(of);
        let by_name = Wants::new(&wants);
        let names = ["BTC-USD", "BTC-EUR", "BTC-", "BTC", "BT", "B", "A", "", "\u{e4}", "\u{e5}", "BTC-USDT"];
        for name in names {
            for channel in [Channel::Trades, Channel::Quotes, Channel::Book] {
                let first =
                    wants.iter().position(|want| want.stream.channel == channel && want.target.matches(name));
                assert_eq!(by_name.of(channel, name), first, "{name}");
                let is_prefix = |at: &usize| matches!(wants[*at].target, Target::Prefix(_));
                assert_eq!(by_name.prefix_of(channel, name), first.filter(is_prefix), "{name}");
            }
        }
        assert_eq!(by_name.of(Channel::Trades, "BTC-USD"), Some(0));
        assert_eq!(by_name.prefix_of(Channel::Trades, "BTC-USDT"), Some(2));
    }
}
