//! What the service keeps between calls: sessions, transactions, prepared statements and tickets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use arrow_flight::sql::metadata::{SqlInfoData, XdbcTypeInfoData};
use bytes::Bytes;
use pyralog_models::Database;
use tonic::Status;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use super::auth::{self, Credentials};
use super::caller::{self, Caller};
use super::expiry::ExpiringMap;
use super::metadata;
use super::options::FlightOptions;
use super::prepared::PreparedStatement;
use super::query::Query;
use super::slot::Slot;
use super::status;
use super::ticket::{self, Kind};

/// The service's state; all calls share it.
pub struct State {
    /// The database.
    pub database: Database,
    /// Limits and time-outs.
    pub options: FlightOptions,
    /// Sessions by the id in their token or cookie.
    pub sessions: ExpiringMap<Slot>,
    /// Flight transactions by the id in their handle.
    pub transactions: ExpiringMap<Slot>,
    /// Prepared statements.
    pub prepared: ExpiringMap<PreparedStatement>,
    /// What tickets stand for: queries not read yet, and those being read.
    pub queries: ExpiringMap<Query>,
    /// The answer to GetSqlInfo.
    pub sql_info: SqlInfoData,
    /// The answer to GetXdbcTypeInfo.
    pub types: XdbcTypeInfoData,
}

/// The slot that a statement runs in, and whether anybody can find it again afterwards.
#[derive(Clone)]
pub struct Lease {
    /// The session or transaction.
    pub slot: Arc<Slot>,
    /// It is in a table (as opposed to being made for one statement).
    pub kept: bool,
}

impl State {
    /// The state of a service without clients.
    pub fn new(database: Database, options: FlightOptions) -> Result<Self, arrow_flight::error::FlightError> {
        Ok(State {
            sessions: ExpiringMap::new("session", options.max_sessions, options.session_idle, |slot: &Slot| {
                !slot.in_transaction()
            }),
            // A transaction that has no statement so far costs nothing and may stay as long as a session; see `expire`.
            transactions: ExpiringMap::new("transaction", options.max_transactions, options.session_idle, |_| false),
            prepared: ExpiringMap::new("prepared statement", options.max_prepared, options.prepared_idle, |_| true),
            queries: ExpiringMap::new("unread query", options.max_queries, options.query_idle, |_| true),
            sql_info: metadata::sql_info::build(&options)?,
            types: metadata::types::build()?,
            database,
            options,
        })
    }

    /// Finds out who calls, and with what session. Makes nothing.
    pub async fn caller(&self, headers: &MetadataMap, peer: Option<SocketAddr>) -> Result<Caller, Status> {
        let credentials = auth::credentials(headers)?;
        let token = match &credentials {
            Credentials::Bearer(token) => caller::session_of_token(token),
            _ => None,
        };
        let (principal, mut session) = match token {
            Some(id) => {
                let slot = self.sessions.get(&id, Instant::now());
                let slot = slot.ok_or_else(|| Status::unauthenticated("the token has expired or is not this server's: connect again"))?;
                (slot.principal.clone(), Some(id))
            }
            None => (self.options.authenticator.authenticate(credentials, peer).await?, None),
        };
        if let Some(cookie) = caller::session_of_cookie(headers) {
            let known = cookie.ok().filter(|id| {
                self.sessions
                    .get(id, Instant::now())
                    .is_some_and(|slot| slot.principal == principal)
            });
            let id = known.ok_or_else(|| Status::unauthenticated("the session has expired or is not this server's: connect again"))?;
            session = Some(id);
        }
        Ok(Caller::new(principal, session, peer))
    }

    /// Issues a token to a principal.
    pub fn issue_token(&self, principal: auth::Principal) -> Result<String, Status> {
        let slot = Slot::session_of(principal, &self.database);
        Ok(caller::token(self.sessions.insert(Arc::new(slot), Instant::now())?))
    }

    /// Where a statement runs: in the named transaction, else in the caller's session, else in a session of its own.
    pub fn lease(&self, caller: &Caller, transaction: Option<&Bytes>) -> Result<Lease, Status> {
        if let Some(handle) = transaction.filter(|handle| !handle.is_empty()) {
            return Ok(Lease {
                slot: self.transaction(caller, handle)?,
                kept: true,
            });
        }
        match caller.session {
            Some(id) => {
                let slot = self.sessions.get(&id, Instant::now());
                let slot = slot.ok_or_else(|| Status::unauthenticated("the session has just expired: connect again"))?;
                Ok(Lease { slot, kept: true })
            }
            None => Ok(Lease {
                slot: Arc::new(Slot::session_of(caller.principal.clone(), &self.database)),
                kept: false,
            }),
        }
    }

    /// The slot of a Flight transaction.
    pub fn transaction(&self, caller: &Caller, handle: &[u8]) -> Result<Arc<Slot>, Status> {
        let id = ticket::decode(Kind::Transaction, handle)?;
        self.transactions
            .get(&id, Instant::now())
            .filter(|slot| slot.principal == caller.principal)
            .ok_or_else(|| Status::not_found("no such transaction: it has ended, or was idle for too long and was rolled back [25P01]"))
    }

    /// Where a prepared statement runs: in the transaction that it was prepared in. When that has ended, in the one transaction that its
    /// connection has open now: ADBC goes on with its statements after a commit, in the transaction that it began next.
    pub fn lease_of(&self, caller: &Caller, statement: &PreparedStatement) -> Result<Lease, Status> {
        let Some(handle) = &statement.transaction else {
            return self.lease(caller, None);
        };
        if let Ok(slot) = self.transaction(caller, handle) {
            return Ok(Lease { slot, kept: true });
        }
        let same = |slot: &Arc<Slot>| slot.principal == caller.principal && slot.peer == caller.peer;
        let mut open = self.transactions.values().into_iter().filter(same);
        match (open.next(), open.next()) {
            (None, _) => self.lease(caller, None),
            (Some(slot), None) => Ok(Lease { slot, kept: true }),
            (Some(_), Some(_)) => Err(Status::failed_precondition(
                "the transaction of the prepared statement has ended: prepare it again [25P01]",
            )),
        }
    }

    /// Keeps a session that was made for one statement if that statement left something behind in it.
    pub fn keep_if_changed(&self, caller: &Caller, lease: &mut Lease, tag: &str) -> Result<(), Status> {
        let changed = lease.slot.in_transaction() || matches!(tag.split(' ').next(), Some("SET" | "RESET" | "USE"));
        if !lease.kept && changed {
            caller.keep(self.sessions.insert(lease.slot.clone(), Instant::now())?);
            lease.kept = true;
        }
        Ok(())
    }

    /// The caller's session, made and kept now if there is none.
    pub fn kept_session(&self, caller: &Caller) -> Result<Arc<Slot>, Status> {
        let lease = self.lease(caller, None)?;
        if !lease.kept {
            caller.keep(self.sessions.insert(lease.slot.clone(), Instant::now())?);
        }
        Ok(lease.slot)
    }

    /// Begins a Flight transaction with the caller's session options.
    pub fn begin(&self, caller: &Caller) -> Result<Bytes, Status> {
        let slot = Slot::transaction_of(caller.principal.clone(), caller.peer, &self.database);
        if let Some(session) = caller.session.and_then(|id| self.sessions.get(&id, Instant::now())) {
            let options = session.options.lock().clone();
            for (name, value) in &options {
                slot.session().set(name, value).map_err(|error| status::from_error(&error))?;
            }
            *slot.options.lock() = options;
            if let Some(session) = session.used_session() {
                // Whether it was set as an option or by a statement.
                let set = |name| slot.session().set(name, &session.setting(name)?);
                set("transaction_isolation").map_err(|error| status::from_error(&error))?;
            }
        }
        Ok(ticket::encode(
            Kind::Transaction,
            self.transactions.insert(Arc::new(slot), Instant::now())?,
        ))
    }

    /// Ends a Flight transaction; it is gone whatever the outcome.
    pub async fn end(&self, caller: &Caller, handle: &[u8], commit: bool) -> Result<(), Status> {
        let slot = self.transaction(caller, handle)?;
        let id = ticket::decode(Kind::Transaction, handle)?;
        self.transactions.remove(&id);
        slot.end(commit).await
    }

    /// Closes the caller's session, rolling its transaction back.
    pub async fn close_session(&self, caller: &Caller) {
        let Some(slot) = caller.session.and_then(|id| self.sessions.remove(&id)) else {
            return;
        };
        slot.abandon().await;
        caller.forget();
    }

    /// Lets go of what has been idle for too long. Call it now and then.
    pub async fn expire(&self) {
        let now = Instant::now();
        self.queries.sweep(now);
        self.prepared.sweep(now);
        let idle = self.options.transaction_idle;
        for table in [&self.sessions, &self.transactions] {
            for slot in table.sweep(now) {
                slot.abandon().await;
            }
            let unused: Vec<(Uuid, Arc<Slot>)> = table.unused(idle, now, Slot::in_transaction);
            for (id, slot) in unused {
                slot.expire(|| table.is_unused(&id, idle, Instant::now())).await;
            }
        }
    }

    /// Stops all queries.
    pub fn cancel_all(&self) {
        for query in self.queries.values() {
            query.cancel.cancel();
        }
    }

    /// Rolls back all open transactions; for the end.
    pub async fn close(&self) {
        self.cancel_all();
        for slot in self.transactions.values().into_iter().chain(self.sessions.values()) {
            slot.abandon().await;
        }
    }
}
