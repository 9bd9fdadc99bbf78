//! Answers to what was asked for, and errors.

use super::{Asked, Kind, Phase, RETRY_AFTER, Session, UserRequest};
use crate::chains::Resubscribed;
use crate::event::{Ack, Asked as Request, Event, Fault, FaultCode, Symbol};
use crate::hint;
use crate::subscription::Subscription;
use crate::wanted::Name;
use std::collections::HashSet;
use std::time::Duration;
use tickgate_protocol::command::Id;
use tickgate_protocol::control::AckResult;
use tickgate_protocol::{Channel, Code, Position};

impl Session {
    pub(super) fn acknowledged(&mut self, asked: Asked, ok: bool, results: Vec<AckResult>) {
        match asked.kind {
            Kind::Auth => {
                self.out.events.push(Event::Auth { ok });
                self.refused(&results);
                if self.phase == Phase::Authenticating {
                    self.open();
                }
            }
            Kind::User(request) => {
                let mut ended = Vec::new();
                for result in results.iter().filter(|result| result.ok) {
                    ended.extend(self.user_acknowledged(&request, result));
                }
                // Until the gateway gives one, it is as good; but what was held before it knows nothing of.
                if let Some(cursor) = request.cursor.clone().filter(|_| self.cursor.is_none()) {
                    self.wanted.begun_from(&cursor);
                    self.out.cursor = Some(cursor.clone());
                    self.cursor = Some(cursor);
                }
                self.out.events.push(Event::Ack(Ack { asked: request.asked, ok, results, ended }));
            }
            Kind::Resume { .. } => self.refused(&results),
            Kind::Release => {}
            Kind::Renew((channel, name)) => {
                if let Some(held) = self.wanted.get_mut(channel, &name) {
                    held.is_renewing = false;
                }
                self.resubscribed(Resubscribed::ByUs, channel, &name);
                self.refused(&results);
            }
            Kind::Set { heartbeat_ms } => self.heartbeat_ms = heartbeat_ms,
        }
    }

    /// Gives the symbols whose books have ended by it.
    fn user_acknowledged(&mut self, request: &UserRequest, result: &AckResult) -> Vec<Symbol> {
        let Some(channel) = Channel::parse(&result.channel) else { return Vec::new() };
        let name = &*result.symbol;
        if request.asked == Request::Unsubscribe {
            return self.unsubscribed(channel, name);
        }
        // The last one that names it counts.
        let names_it =
            |s: &&Subscription| s.channel == channel && s.symbols.iter().any(|symbol| symbol == name);
        let Some(asked) = request.subscriptions.iter().rev().find(names_it) else { return Vec::new() };
        let goes_on = asked.begin.is_some() || request.cursor.is_some();
        self.wanted.hold(channel, name.into(), asked.options, asked.begin, request.cursor.clone());
        if goes_on {
            let Self { chains, wanted, .. } = self;
            chains.forget(channel, name, |symbol| wanted.is_its(channel, name, symbol));
        } else {
            self.resubscribed(Resubscribed::ByUser, channel, name);
        }
        Vec::new()
    }

    fn resubscribed(&mut self, by: Resubscribed, channel: Channel, name: &str) {
        let Self { chains, wanted, .. } = self;
        let depth = wanted.depth(channel, name);
        chains.resubscribed(by, channel, name, depth, |symbol| wanted.is_its(channel, name, symbol));
    }

    /// Its user has given a subscription up. Gives the symbols whose books have ended with it.
    fn unsubscribed(&mut self, channel: Channel, name: &str) -> Vec<Symbol> {
        let was_owed = self.wanted.get(channel, name).is_some_and(|held| held.owes_done);
        let mut broken = if was_owed { self.broken_by(channel, name) } else { Vec::new() };
        let Self { chains, wanted, awaited, .. } = self;
        let was_awaited = awaited.remove(&(channel, name.into())).is_some();
        let was_replayed = was_awaited || was_owed;
        let ends = |symbol: &str| {
            let goes_on = wanted.goes_on_by(channel, name, symbol).is_some_and(|(other, held)| {
                let is_replayed = || held.owes_done || awaited.contains_key(&(channel, other.clone()));
                // Of trades that were still to be replayed nobody knows how many do not come: they begin anew.
                channel.is_state() || !was_replayed || is_replayed()
            });
            wanted.is_its(channel, name, symbol) && !goes_on
        };
        let mut gone = chains.forget(channel, name, ends);
        wanted.drop(channel, name);
        gone.retain(|_| channel == Channel::Book);
        // Those that go on have no past to wait for any more.
        let ended: HashSet<&Symbol> = gone.iter().collect();
        broken.retain(|symbol| !ended.contains(symbol));
        broken.iter().for_each(|symbol| self.renew(symbol));
        gone
    }

    /// The broken books that come by a subscription.
    fn broken_by(&mut self, channel: Channel, name: &str) -> Vec<Symbol> {
        let Self { chains, wanted, .. } = self;
        let mut broken = if channel == Channel::Book { chains.broken(name) } else { Vec::new() };
        broken.retain(|symbol| wanted.is_its(channel, name, symbol));
        broken
    }

    /// A subscription has ended. Gives the symbols whose books have ended with it; what another subscription brings of them begins
    /// anew.
    fn end(&mut self, channel: Channel, name: &str) -> Vec<Symbol> {
        let Self { chains, wanted, .. } = self;
        let mut gone = chains.forget(channel, name, |symbol| wanted.is_its(channel, name, symbol));
        wanted.drop(channel, name);
        gone.retain(|_| channel == Channel::Book);
        gone
    }

    /// What is no longer granted, of what the client held.
    fn refused(&mut self, results: &[AckResult]) {
        for result in results.iter().filter(|result| !result.ok) {
            let Some(channel) = Channel::parse(&result.channel) else { continue };
            let symbol = Symbol::from(&*result.symbol);
            let ended = self.end(channel, &symbol);
            self.awaited.remove(&(channel, symbol.clone()));
            let code = result.code.unwrap_or(Code::Internal);
            let message = result.message.as_deref().unwrap_or("it is no longer granted");
            self.fault(code, Some(symbol), message, false);
            self.out.ended(ended);
        }
    }

    fn fault(&mut self, code: Code, symbol: Option<Symbol>, message: &str, fatal: bool) {
        let hint = hint::of(code, symbol.as_deref(), message);
        self.out.events.push(Event::Error(Fault::new(FaultCode::Protocol(code), symbol, hint, fatal)));
    }

    pub(super) fn failed(
        &mut self,
        id: Option<Id>,
        code: Code,
        message: &str,
        fatal: bool,
        retry_after: Option<Duration>,
    ) {
        if fatal {
            self.out.retry_after = retry_after;
            let is_about_us = matches!(code, Code::Unauthenticated | Code::Forbidden | Code::TokenExpired);
            if is_about_us && !self.has_token {
                self.out.give_up = Some(format!("{code}: {message}"));
            }
            return self.fault(code, None, message, true);
        }
        // The gateway is asked for its time by the client alone, which does so again later.
        if code == Code::RateLimited && matches!(id, Some(Id::Number(id)) if self.trips.refused(id)) {
            return;
        }
        match code {
            Code::TokenExpiring => self.out.wants_token = self.has_token,
            Code::ReplayAgedOut => self.aged_out(id.as_ref()),
            _ => {
                if let Some(asked) = self.answered(id.as_ref()) {
                    return self.request_failed(asked, code, message, retry_after);
                }
            }
        }
        self.fault(code, None, message, false);
    }

    fn request_failed(&mut self, asked: Asked, code: Code, message: &str, retry_after: Option<Duration>) {
        if matches!(asked.kind, Kind::Auth) {
            self.out.events.push(Event::Auth { ok: false });
        }
        let symbol = match &asked.kind {
            Kind::User(request) => match &request.subscriptions[..] {
                [Subscription { symbols, .. }] if symbols.len() == 1 => Some(Symbol::from(&*symbols[0])),
                _ => None,
            },
            Kind::Renew((_, name)) => Some(name.clone()),
            _ => None,
        };
        self.fault(code, symbol, message, false);
        match asked.kind {
            kind if code == Code::RateLimited => {
                let wait = retry_after.unwrap_or(RETRY_AFTER);
                self.out.again_after = Some(self.out.again_after.map_or(wait, |other| other.max(wait)));
                self.too_fast.push((asked.body, kind, asked.is_opening));
            }
            // Most likely the cursor is of another cluster. There are other ways to go on.
            Kind::Resume { names, cursor: Some(cursor) } => {
                let was_kept = self.cursor.take_if(|kept| *kept == cursor).is_some();
                self.wanted.refused(&cursor, was_kept);
                names.iter().for_each(|name| _ = self.awaited.remove(name));
                let requests = self.wanted.resume_names(&names, &mut self.chains);
                requests.into_iter().for_each(|request| self.resume(request));
            }
            Kind::Resume { names, .. } => {
                for (channel, name) in names {
                    let ended = self.end(channel, &name);
                    self.awaited.remove(&(channel, name.clone()));
                    self.fault(code, Some(name), "it could not be resumed, and is given up", false);
                    self.out.ended(ended);
                }
            }
            Kind::Renew((channel, name)) => {
                let ended = self.end(channel, &name);
                self.out.ended(ended);
            }
            _ => {}
        }
    }

    /// What a request asked for is gone: what it resumed and nothing has come of since may go on behind anything.
    fn aged_out(&mut self, id: Option<&Id>) {
        let Some(Id::Number(id)) = id else { return };
        let is_its = |_: &Name, request: &mut i64| *request == *id;
        let gone: Vec<Name> = self.awaited.extract_if(is_its).map(|(name, _)| name).collect();
        let Self { chains, awaited, .. } = self;
        for (channel, name) in gone {
            chains.aged_out(channel, &name, |symbol| !awaited.contains_key(&(channel, Symbol::from(symbol))));
        }
    }

    pub(super) fn replayed(&mut self, channel: Channel, symbol: Symbol, seq: Option<Position>) {
        self.awaited.remove(&(channel, symbol.clone()));
        let held = self.wanted.get_mut(channel, &symbol);
        let (is_owed, is_past) =
            held.map_or((false, false), |held| (std::mem::take(&mut held.owes_done), held.is_past()));
        if is_past {
            // It is over. What a pattern brings of it from now on begins anew.
            self.end(channel, &symbol);
        }
        // What a reconnect resumed is nobody's business.
        if is_owed {
            self.out.events.push(Event::ReplayDone { channel, symbol: symbol.clone(), seq });
            let broken = self.broken_by(channel, &symbol);
            broken.iter().for_each(|book| self.renew(book));
        }
        self.settle();
    }
}
