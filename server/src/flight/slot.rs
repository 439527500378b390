//! A session of the database as a Flight client holds it: with an owner, one statement starting at a time, and the life of its
//! transaction.
//!
//! Flight transactions (`BeginTransaction`) have a slot of their own. Their database transaction starts with their first statement, so
//! that a driver that keeps a transaction open at all times (as ADBC does) pins no snapshot while it waits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use pyralog_models::{Database, Error, Parameters, Prepared, QueryResult, Session};
use tokio::sync::OwnedMutexGuard;
use tonic::Status;

use super::auth::Principal;
use super::status;

/// Where a slot's transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A session; or a Flight transaction without a statement so far.
    Idle,
    /// A Flight transaction that has begun in the database.
    Open,
    /// The transaction was left idle and rolled back.
    Expired,
    /// A Flight transaction that the database gave up.
    Failed,
    /// A Flight transaction that was committed or rolled back.
    Closed,
}

/// A session with its owner.
pub struct Slot {
    /// Who made it.
    pub principal: Principal,
    /// For a transaction, the other end of the connection that began it.
    pub peer: Option<SocketAddr>,
    database: Database,
    session: OnceLock<Session>,
    /// Options set by the session actions, replayed in the owner's transactions.
    pub options: Mutex<BTreeMap<String, String>>,
    /// Held while a statement starts: statements of one session start one after another.
    turn: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
    transactional: bool,
}

impl Slot {
    /// A session that is made with its first statement.
    pub fn session_of(principal: Principal, database: &Database) -> Self {
        Self::new(principal, None, database, false)
    }

    /// A Flight transaction, with a session of its own.
    pub fn transaction_of(principal: Principal, peer: Option<SocketAddr>, database: &Database) -> Self {
        Self::new(principal, peer, database, true)
    }

    fn new(principal: Principal, peer: Option<SocketAddr>, database: &Database, transactional: bool) -> Self {
        Slot {
            principal,
            peer,
            database: database.clone(),
            session: OnceLock::new(),
            options: Mutex::default(),
            turn: Arc::default(),
            state: Mutex::new(State::Idle),
            transactional,
        }
    }

    /// The session; made now if this is its first use.
    pub fn session(&self) -> &Session {
        self.session.get_or_init(|| self.database.session())
    }

    /// The session, if it has been used.
    pub fn used_session(&self) -> Option<&Session> {
        self.session.get()
    }

    /// Whether a database transaction is open.
    pub fn in_transaction(&self) -> bool {
        self.session.get().is_some_and(Session::in_transaction)
    }

    /// Waits until no other statement of this session starts, and begins a Flight transaction's database transaction if it has not.
    /// Errors with `Aborted` if the transaction is no more.
    pub async fn turn(&self) -> Result<OwnedMutexGuard<()>, Status> {
        let turn = self.turn.clone().lock_owned().await;
        let state = *self.state.lock();
        match state {
            State::Expired => {
                // A session goes on after the one error; a Flight transaction has only this life.
                if !self.transactional {
                    *self.state.lock() = State::Idle;
                }
                return Err(Status::aborted("the transaction was idle for too long and was rolled back [25P03]"));
            }
            State::Failed => return Err(Status::aborted("an earlier error ended the transaction: roll it back [25P02]")),
            State::Closed => return Err(Status::not_found("the transaction has ended [25P01]")),
            State::Idle if self.transactional => {
                self.session().begin().await.map_err(|error| status::from_error(&error))?;
                *self.state.lock() = State::Open;
            }
            State::Idle | State::Open => {}
        }
        Ok(turn)
    }

    /// Runs one statement in its turn.
    pub async fn execute(&self, sql: &str, parameters: Parameters) -> Result<QueryResult, Status> {
        let _turn = self.turn().await?;
        let result = self.session().execute(sql, parameters).await;
        self.settle(result.is_ok());
        result.map_err(|error| status::from_error(&error))
    }

    /// Plans one statement in its turn.
    pub async fn prepare(&self, sql: &str) -> Result<Prepared, Status> {
        let _turn = self.turn().await?;
        self.session().prepare(sql).await.map_err(|error| status::from_error(&error))
    }

    /// Notes what a statement did to a Flight transaction: after COMMIT or ROLLBACK as SQL the next statement begins a new one; after an
    /// error that ended it, it stays ended.
    pub fn settle(&self, succeeded: bool) {
        let mut state = self.state.lock();
        if *state == State::Open && !self.session().in_transaction() {
            *state = if succeeded { State::Idle } else { State::Failed };
        }
    }

    /// Ends a Flight transaction.
    pub async fn end(&self, commit: bool) -> Result<(), Status> {
        let _turn = self.turn.clone().lock_owned().await;
        let state = std::mem::replace(&mut *self.state.lock(), State::Closed);
        let result = match state {
            State::Open if commit => self.session().commit().await,
            State::Open => self.session().rollback().await,
            State::Expired if commit => {
                return Err(Status::aborted("the transaction was idle for too long and was rolled back [25P03]"));
            }
            State::Failed if commit => {
                return Err(Status::aborted(
                    "an earlier error ended the transaction; nothing was committed [25P02]",
                ));
            }
            State::Closed => return Err(Status::not_found("the transaction has ended [25P01]")),
            State::Idle | State::Expired | State::Failed => Ok(()),
        };
        let outcome = result.map_err(|error| status::from_error(&error));
        self.abandon().await;
        outcome
    }

    /// Rolls an open transaction back because nobody used it, if `still_unused` holds once no statement is starting.
    pub async fn expire(&self, still_unused: impl Fn() -> bool) {
        let _turn = self.turn.clone().lock_owned().await;
        if still_unused() && self.in_transaction() {
            *self.state.lock() = State::Expired;
            self.abandon().await;
        }
    }

    /// Rolls back whatever is open; for slots that nobody can use any more.
    pub async fn abandon(&self) {
        if let Some(session) = self.session.get()
            && session.in_transaction()
            && let Err(error) = session.rollback().await
        {
            report_rollback(&error);
        }
    }
}

/// A rollback that nobody waits for has failed: say so.
pub fn report_rollback(error: &Error) {
    tracing::warn!(%error, "cannot roll back an abandoned transaction");
}
