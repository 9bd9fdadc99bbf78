//! Answers to what was asked for, and errors.

use super::{Asked, Kind, Phase, RETRY_AFTER, Session, UserRequest};
use crate::chains::Resubscribed;
use crate::event::{Ack, Asked as Request, Event, Fault, FaultCode, Symbol};
use crate::hint::advice;
use crate::subscription::Subscription;
use crate::wanted::Name;
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
                for result in results.iter().filter(|result| result.ok) {
                    self.user_acknowledged(&request, result);
                }
                self.out.events.push(Event::Ack(Ack { asked: request.asked, ok, results }));
            }
            Kind::Resume { .. } => self.refused(&results),
            Kind::Release => {}
            Kind::Renew((channel, name)) => {
                if let Some(held) = self.wanted.get_mut(channel, &name) {
                    held.is_renewing = false;
                }
                let Self { chains, wanted, .. } = self;
                chains
                    .resubscribed(Resubscribed::ByUs, channel, &name, |symbol| wanted.depth(channel, symbol));
                self.refused(&results);
            }
            Kind::Set { heartbeat_ms } => self.heartbeat_ms = heartbeat_ms,
        }
    }

    fn user_acknowledged(&mut self, request: &UserRequest, result: &AckResult) {
        let Some(channel) = Channel::parse(&result.channel) else { return };
        let name = &*result.symbol;
        if request.asked == Request::Unsubscribe {
            self.wanted.drop(channel, name);
            return self.chains.forget(channel, name);
        }
        // The last one that names it counts.
        let names_it =
            |s: &&Subscription| s.channel == channel && s.symbols.iter().any(|symbol| symbol == name);
        let Some(asked) = request.subscriptions.iter().rev().find(names_it) else { return };
        self.wanted.hold(channel, name.into(), asked.options, asked.begin);
        let Self { chains, wanted, .. } = self;
        if asked.begin.is_some() {
            chains.forget(channel, name);
        } else {
            chains.resubscribed(Resubscribed::ByUser, channel, name, |symbol| wanted.depth(channel, symbol));
        }
    }

    /// What is no longer granted, of what the client held.
    fn refused(&mut self, results: &[AckResult]) {
        for result in results.iter().filter(|result| !result.ok) {
            let Some(channel) = Channel::parse(&result.channel) else { continue };
            let symbol = Symbol::from(&*result.symbol);
            self.wanted.drop(channel, &symbol);
            self.awaited.remove(&(channel, symbol.clone()));
            let code = result.code.unwrap_or(Code::Internal);
            self.fault(
                code,
                Some(symbol),
                result.message.as_deref().unwrap_or("it is no longer granted"),
                false,
            );
        }
    }

    fn fault(&mut self, code: Code, symbol: Option<Symbol>, message: &str, fatal: bool) {
        let hint = format!("{message}. {}", advice(code));
        self.out.events.push(Event::Error(Fault { code: FaultCode::Protocol(code), symbol, hint, fatal }));
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
            Kind::Resume { names, with_cursor: true } => {
                self.cursor = None;
                self.wanted.uncovered();
                names.iter().for_each(|name| _ = self.awaited.remove(name));
                let requests = self.wanted.resume_names(&names, &mut self.chains);
                requests.into_iter().for_each(|request| self.resume(request));
            }
            Kind::Resume { names, .. } => {
                for (channel, name) in names {
                    self.wanted.drop(channel, &name);
                    self.awaited.remove(&(channel, name.clone()));
                    self.fault(code, Some(name), "it could not be resumed, and is given up", false);
                }
            }
            Kind::Renew((channel, name)) => self.wanted.drop(channel, &name),
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
            self.wanted.drop(channel, &symbol);
            self.chains.forget(channel, &symbol);
        }
        // What a reconnect resumed is nobody's business.
        if is_owed {
            self.out.events.push(Event::ReplayDone { channel, symbol, seq });
        }
        self.settle();
    }
}
