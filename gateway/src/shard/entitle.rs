//! What a session's rights make of its subscriptions.
//!
//! A symbol is granted or it is not. A pattern that the rights cover is like any other; one that is wider stands in the
//! table as restricted, where the rights allow that at all, and each event of it is held against them: only those pay for
//! it. What a new token changes is put in force at once: what is no longer granted ends, and what has come in view of a
//! pattern begins with its state.

use super::Shard;
use super::passes::now_s;
use super::socket::Socket;
use super::table::Place;
use crate::access::audit::{Cause, Line, NAMES_MAX};
use crate::access::rights::Rights;
use crate::clock;
use crate::feed::request::{Request, SessionKey, Target};
use crate::session::Named;
use crate::session::throttle::{Bucket, Rates};
use crate::stats::AuthFailure;
use rustc_hash::FxHashSet;
use std::sync::Arc;
use tickgate_protocol::command::Id;
use tickgate_protocol::control::{AckResult, Control};
use tickgate_protocol::event::{Gap, GapCause};
use tickgate_protocol::{Channel, Code};

/// Whether somebody with these rights may subscribe to a symbol or pattern, as it is written.
pub(super) fn may_hold(rights: Option<&Rights>, channel: Channel, text: &str) -> bool {
    let Some(rights) = rights else { return true };
    match text.strip_suffix('*') {
        None => rights.may(channel, text),
        Some(prefix) => rights.covers(channel, prefix) || rights.may_narrow(channel, prefix),
    }
}

/// Why they may not.
pub(super) fn refusal(text: &str) -> &'static str {
    match text.ends_with('*') {
        true => "wider than what you are entitled to: name symbols, or a narrower pattern",
        false => "you are not entitled to it",
    }
}

/// Whether each event of a subscription has to be held against the rights.
pub(super) fn is_restricted(rights: Option<&Rights>, channel: Channel, target: &Target) -> bool {
    match (rights, target) {
        (Some(rights), Target::Prefix(prefix)) => !rights.covers(channel, prefix),
        _ => false,
    }
}

impl<S: Socket> Shard<S> {
    /// Puts in force what the rights of a session say of its rate.
    pub(super) fn bound_rate(&mut self, key: SessionKey) {
        let now_ms = clock::mono_ms();
        let Some(session) = self.open_session(key) else { return };
        let most = session.guest.rights().and_then(|rights| rights.max_updates_per_s);
        if session.rates.is_none() && most.is_none() {
            return;
        }
        let mut rates = session.rates.take().map_or_else(Rates::default, |rates| *rates);
        // What was used up stays so: a token that is shown again brings nothing anew.
        let missing = rates.updates.as_mut().map_or(0.0, |old| old.per_s() - old.tokens(now_ms));
        rates.updates = most.map(|most| {
            let mut updates = Bucket::new(f64::from(most), now_ms);
            updates.take(missing);
            updates
        });
        session.rates = (!rates.is_empty()).then(|| Box::new(rates));
    }

    /// A session shows a new token.
    pub(super) fn authenticate_again(&mut self, key: SessionKey, id: Option<Id>, token: &str) {
        let Some(access) = self.shared.access.clone() else {
            // Nobody is asked.
            return self.tell(key, &Control::ack(id, true, Vec::new()));
        };
        let Some(pass) = self.open_session(key).and_then(|session| session.guest.pass.as_deref_mut()) else {
            return;
        };
        let identity = match access.check(token, now_s()) {
            Ok(new) if new.subject != pass.identity.subject => Err(AuthFailure::OtherSubject),
            // Its lane cannot change.
            Ok(new) if new.rights.delay_s != pass.identity.rights.delay_s => Err(AuthFailure::OtherDelay),
            checked => checked,
        };
        let identity = match identity {
            Ok(identity) => identity,
            Err(failure) => return self.refuse_again(key, id, failure),
        };
        let (way, rights) = (identity.way.kind(), identity.rights.clone());
        let (reason, before) = (way.label(), std::mem::replace(&mut pass.identity, identity));
        pass.is_warned = false;
        self.totals.auth_accepted[way as usize] += 1;
        self.watch_pass(key);
        self.bound_rate(key);
        self.audit(key, Cause::Auth, reason, None);
        let ended =
            if before.rights == rights { Vec::new() } else { self.regrant(key, &before.rights, &rights) };
        if !ended.is_empty() {
            self.totals.forbidden += ended.len() as u64;
            let names: Vec<String> =
                ended.iter().take(NAMES_MAX).map(|end| format!("{}:{}", end.channel, end.symbol)).collect();
            self.audit(key, Cause::Forbid, "new_token", Some(&names.join(" ")));
        }
        let limits = Some(self.limits(Some(&rights)));
        self.tell(key, &Control::Ack { id, ok: true, results: ended, limits });
    }

    fn refuse_again(&mut self, key: SessionKey, id: Option<Id>, failure: AuthFailure) {
        self.totals.auth_refused[failure as usize] += 1;
        self.totals.request_errors += 1;
        if failure == AuthFailure::UnknownKey
            && let Some(access) = &self.shared.access
        {
            access.want_keys();
        }
        self.audit(key, Cause::AuthRefuse, failure.label(), None);
        let (code, message) = match failure {
            AuthFailure::OtherSubject => (Code::Forbidden, "another subject's: connect anew with it"),
            AuthFailure::OtherDelay => {
                (Code::Forbidden, "its data is of another delay: connect anew with it")
            }
            _ => (Code::Unauthenticated, "not taken: what was shown before still counts, as long as it does"),
        };
        self.tell(key, &Control::error(id, code, message, false));
    }

    /// Holds every subscription of a session against its new rights; gives those that have ended.
    fn regrant(&mut self, key: SessionKey, old: &Rights, new: &Arc<Rights>) -> Vec<AckResult> {
        let Some((session, table)) = self.open_session_and_table(key) else { return Vec::new() };
        let (mut lost, mut narrow) = (Vec::new(), Vec::new());
        for sub in session.subs.iter() {
            let (target, stream) = (table.target(sub.place), table.stream(sub.place));
            let channel = stream.channel;
            let is_narrow = is_restricted(Some(new), channel, target);
            let was_narrow = table.is_restricted(sub.place);
            // What is still brought up to date would have holes where more has come in view.
            let is_torn = stream.is_held_back && (is_narrow || was_narrow);
            if is_torn || !may_hold(Some(new), channel, &target.text()) {
                lost.push((channel, target.clone()));
            } else if is_narrow || was_narrow {
                narrow.push((sub.place, is_narrow, was_narrow));
            }
        }
        for (place, is_narrow, _) in &narrow {
            self.table.restrict(*place, *is_narrow);
        }
        // Of what was covered before nothing was not to be seen.
        let were_narrow = narrow.iter().filter(|(.., was_narrow)| *was_narrow);
        self.come_in_view(key, &were_narrow.map(|(place, ..)| *place).collect(), old, new);
        let mut results = Vec::with_capacity(lost.len());
        let mut ended = Vec::with_capacity(lost.len());
        for (channel, target) in lost {
            let Some(end) = self.drop_sub(key, channel, &target) else { continue };
            let text = target.text();
            results.push(AckResult::refused(channel.name(), &text, Code::Forbidden, refusal(&text)));
            ended.push(end);
        }
        self.fall_back_all(key, &ended);
        results
    }

    /// Of patterns that stay, symbols that were not to be seen and are now begin with their state. Goes through the symbols
    /// once, however many patterns there are.
    fn come_in_view(&mut self, key: SessionKey, stay: &FxHashSet<Place>, old: &Rights, new: &Rights) {
        let mut channels = Channel::ALL.to_vec();
        channels.retain(|channel| stay.iter().any(|place| self.table.stream(*place).channel == *channel));
        let known = if stay.is_empty() { Vec::new() } else { self.shared.directory.all() };
        let each = known.iter().flat_map(|symbol| channels.iter().map(move |channel| (symbol, *channel)));
        let newly = each
            .filter(|(symbol, channel)| new.may(*channel, &symbol.name) && !old.may(*channel, &symbol.name));
        for (symbol, channel) in newly {
            self.table.meet(symbol);
            let Some((session, table)) = self.open_session_and_table(key) else { return };
            let best = session.subs.best(table, channel, symbol.id).filter(|best| stay.contains(&best.place));
            let Some(stream) = best.map(|best| table.stream(best.place)) else { continue };
            if channel.is_state() {
                session.outbox.await_snapshot((symbol.id, stream));
                self.ask(Request::Resync(key, (symbol.id, stream)));
            } else {
                // It may have had some before, under a token that came between.
                let gap = Gap { after: None, upto: None, count: None, cause: GapCause::SlowConsumer };
                session.outbox.announce(symbol, stream, gap);
                self.touch(key.slot);
            }
        }
    }

    /// Writes down what a session did, or what became of it.
    pub(super) fn audit(&mut self, key: SessionKey, cause: Cause, reason: &'static str, names: Option<&str>) {
        let (Some(audit), id) = (self.shared.audit.clone(), self.id) else { return };
        let Some(session) = self.session(key) else { return };
        let Some(pass) = &session.guest.pass else { return };
        let name = session.name(id);
        let subject = Some(&*pass.identity.subject);
        let address = session.guest.peer;
        audit.write(&Line { cause, address, session: Some(&name), subject, reason, names });
    }

    /// Writes down what a session asked for.
    pub(super) fn audit_subscribe(&mut self, key: SessionKey, named: &[Named]) {
        if self.shared.audit.is_none() {
            return;
        }
        let is_forbidden =
            |named: &&Named| named.fault.as_ref().is_some_and(|fault| fault.0 == Code::Forbidden);
        let granted = named.iter().filter(|named| named.fault.is_none());
        let forbidden = named.iter().filter(is_forbidden);
        for (cause, named) in [(Cause::Subscribe, list(granted)), (Cause::Forbid, list(forbidden))] {
            if let Some(names) = named {
                self.audit(key, cause, "request", Some(&names));
            }
        }
    }
}

/// The names of some of them, and how many more there are.
fn list<'a>(named: impl Iterator<Item = &'a Named>) -> Option<String> {
    let mut named = named.peekable();
    named.peek()?;
    let mut names = String::new();
    let mut more = 0;
    for (at, named) in named.enumerate() {
        if at < NAMES_MAX {
            names.push_str(if at == 0 { "" } else { " " });
            names.push_str(&named.channel);
            names.push(':');
            names.push_str(&named.symbol);
        } else {
            more += 1;
        }
    }
    if more > 0 {
        names.push_str(&format!(" and {more} more"));
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::seats::Seats;
    use crate::access::{Identity, Way};
    use crate::config::Config;
    use crate::event::Stream;
    use crate::replay::STEPS;
    use crate::session::guest::{Guest, Opening, Pass};
    use crate::session::subs::Sub;
    use crate::shard::table::Subscriber;
    use crate::shard::trial::{Sink, shared};
    use hyper::body::Bytes;
    use std::collections::BTreeSet;
    use std::rc::Rc;
    use tickgate_protocol::OnSlow;

    fn rights(symbols: &[String]) -> Arc<Rights> {
        let json = serde_json::json!({ "symbols": symbols, "wildcard": true }).to_string();
        Arc::new(Rights::from_json(&json).expect("they are right"))
    }

    /// A session with `rights`, and a pattern of quotes for each of `patterns`.
    fn session(shard: &mut Shard<Sink>, rights: &Arc<Rights>, patterns: &[String]) -> SessionKey {
        let (subject, way) = ("ann".into(), Way::Token { id: None });
        let seat = Seats::default().take(&subject, None).expect("a seat");
        let identity = Identity { subject, expires_s: None, way, rights: rights.clone() };
        let guest = Guest { pass: Some(Pass::new(identity, seat)), ..Guest::new(([127, 0, 0, 1], 1).into()) };
        let key = shard.next_key();
        let opening = Opening {
            answer: Vec::new(),
            early: Bytes::new(),
            guest,
            is_greeted: false,
            connect: tracing::Span::none(),
        };
        shard.open(Rc::new(Sink), opening);
        for pattern in patterns {
            let target = Target::parse(pattern);
            let is_narrow = is_restricted(Some(rights), Channel::Quotes, &target);
            let slot = shard.session(key).expect("it is open").subs.reserve();
            let subscriber = Subscriber::new(key.slot, slot, OnSlow::Conflate).restricted(is_narrow);
            let place = shard.table.insert(&target, Stream::whole(Channel::Quotes), subscriber);
            let sub = Sub::new(&shard.table, place);
            shard.session(key).expect("it is open").subs.fill(slot, sub);
            shard.totals.subscriptions += 1;
            shard.shared.subscriptions.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        key
    }

    /// Each of thousands of patterns was held against each of thousands of symbols, and each that ended looked at all that
    /// were left: a message of some hundred bytes kept a thread from everybody else for seconds.
    #[test]
    fn a_new_token_goes_through_the_symbols_once() {
        const COUNT: usize = 400;
        let shared = shared(Config { shards: 1, ..Config::default() });
        let mut shard: Shard<Sink> = Shard::new(0, shared, Arc::default());
        let names = |of: &str| (0..COUNT).map(|n| format!("{n:03}{of}")).collect::<Vec<_>>();
        for name in names("A").iter().chain(&names("B")) {
            let symbol = shard.shared.directory.meet(name).expect("there is room");
            shard.table.meet(&symbol);
        }
        let (old, new) = (rights(&names("A")), rights(&[names("A"), names("B")].concat()));
        let key = session(&mut shard, &old, &[names("*"), vec!["*".to_owned()]].concat());
        STEPS.set(0);
        assert!(shard.regrant(key, &old, &new).is_empty());
        // Each of the newcomers begins once, with the narrowest pattern that it is of.
        let mut begun = BTreeSet::new();
        while let Some(request) = shard.mailbox.pop() {
            let Request::Resync(of, (symbol, _)) = request else { continue };
            assert!(of == key && begun.insert(symbol), "{symbol} twice");
        }
        assert_eq!(begun, (COUNT as u32..2 * COUNT as u32).collect());
        // And all but one end; what they have been seeing goes on with the one that is left.
        let ended = shard.regrant(key, &new, &rights(&["999".to_owned()]));
        assert_eq!(ended.len(), COUNT);
        assert!(STEPS.get() <= 20 * COUNT, "{} steps for {COUNT} patterns", STEPS.get());
    }
}
