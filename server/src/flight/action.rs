//! The actions: prepared statements, transactions, savepoints, cancellation, sessions.

use arrow_flight::sql::{
    ActionBeginSavepointRequest, ActionBeginSavepointResult, ActionBeginTransactionRequest, ActionBeginTransactionResult,
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionEndSavepointRequest, ActionEndTransactionRequest, Any, EndTransaction, ProstMessageExt,
};
use arrow_flight::{Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo};
use bytes::Bytes;
use prost::Message;
use pyralog_models::{Parameters, RequestName};
use tonic::Status;

use super::caller::Caller;
use super::query;
use super::session_option::{CloseSessionResult, CloseStatus, SetSessionOptionsRequest};
use super::state::State;
use super::status::{self, invalid};
use super::ticket;

/// Every action with its description.
const ACTIONS: [(&str, &str); 13] = [
    (
        "CreatePreparedStatement",
        "Plans a statement and keeps it: ActionCreatePreparedStatementRequest -> ActionCreatePreparedStatementResult",
    ),
    (
        "ClosePreparedStatement",
        "Forgets a prepared statement: ActionClosePreparedStatementRequest -> nothing",
    ),
    (
        "BeginTransaction",
        "Begins a transaction: ActionBeginTransactionRequest -> ActionBeginTransactionResult",
    ),
    (
        "EndTransaction",
        "Commits or rolls back a transaction: ActionEndTransactionRequest -> nothing",
    ),
    (
        "BeginSavepoint",
        "Sets a savepoint: ActionBeginSavepointRequest -> ActionBeginSavepointResult",
    ),
    (
        "EndSavepoint",
        "Releases a savepoint or rolls back to it: ActionEndSavepointRequest -> nothing",
    ),
    (
        "CancelQuery",
        "Cancels a query: ActionCancelQueryRequest -> ActionCancelQueryResult",
    ),
    (
        "CancelFlightInfo",
        "Cancels the query of a FlightInfo: CancelFlightInfoRequest -> CancelFlightInfoResult",
    ),
    (
        "SetSessionOptions",
        "Sets options of the session: SetSessionOptionsRequest -> SetSessionOptionsResult",
    ),
    (
        "GetSessionOptions",
        "Options of the session: GetSessionOptionsRequest -> GetSessionOptionsResult",
    ),
    (
        "CloseSession",
        "Closes the session and rolls back its transaction: CloseSessionRequest -> CloseSessionResult",
    ),
    (
        "SettleRequest",
        "Settles the request that the headers pyralog-client and pyralog-serial name: () -> \"1\" if it was carried out, \"0\" if it never will be",
    ),
    ("HealthCheck", "Answers nothing, which means that the server is there"),
];

/// The answer to ListActions.
pub fn list() -> Vec<ActionType> {
    let action = |(name, description): &(&str, &str)| ActionType {
        r#type: (*name).into(),
        description: (*description).into(),
    };
    ACTIONS.iter().map(action).collect()
}

impl State {
    /// Runs an action; the body of its one result, if it has one.
    pub async fn act(&self, caller: &Caller, action: &Action, name: Option<RequestName>) -> Result<Option<Bytes>, Status> {
        let body = &action.body;
        match action.r#type.as_str() {
            "CreatePreparedStatement" => {
                let request: ActionCreatePreparedStatementRequest = unpack(body)?;
                self.create_prepared(caller, request).await.map(pack)
            }
            "ClosePreparedStatement" => {
                let request: ActionClosePreparedStatementRequest = unpack(body)?;
                self.close_prepared(caller, &request.prepared_statement_handle).map(|()| None)
            }
            "CreatePreparedSubstraitPlan" => Err(Status::unimplemented("Substrait plans are not supported: use SQL [0A000]")),
            "BeginTransaction" => {
                let _: ActionBeginTransactionRequest = unpack(body)?;
                self.begin(caller)
                    .map(|transaction_id| pack(ActionBeginTransactionResult { transaction_id }))
            }
            "EndTransaction" => {
                let request: ActionEndTransactionRequest = unpack(body)?;
                let commit = match request.action() {
                    EndTransaction::Commit => true,
                    EndTransaction::Rollback => false,
                    EndTransaction::Unspecified => return Err(invalid("say whether to commit or to roll back")),
                };
                self.end(caller, &request.transaction_id, commit).await.map(|()| None)
            }
            "BeginSavepoint" => self.begin_savepoint(caller, unpack(body)?).await.map(pack),
            "EndSavepoint" => self.end_savepoint(caller, unpack(body)?).await.map(|()| None),
            "CancelQuery" => {
                let request: ActionCancelQueryRequest = unpack(body)?;
                let info = FlightInfo::decode(&*request.info).map_err(|error| invalid(format!("not a FlightInfo: {error}")))?;
                // The two enumerations have the same numbers.
                self.cancel_info(caller, &info)
                    .map(|status| pack(ActionCancelQueryResult { result: status as i32 }))
            }
            "CancelFlightInfo" => {
                let request: CancelFlightInfoRequest = decode(body)?;
                let info = request.info.ok_or_else(|| invalid("the request has no FlightInfo"))?;
                self.cancel_info(caller, &info)
                    .map(|status| plain(CancelFlightInfoResult::new(status)))
            }
            "SetSessionOptions" => {
                let request: SetSessionOptionsRequest = decode(body)?;
                self.set_options(caller, request).map(plain)
            }
            "GetSessionOptions" => self.get_options(caller).map(plain),
            "CloseSession" => {
                self.close_session(caller).await;
                Ok(plain(CloseSessionResult {
                    status: CloseStatus::Closed as i32,
                }))
            }
            "SettleRequest" => {
                let name =
                    name.ok_or_else(|| invalid("the request to settle is named by the headers of this one, and they are not there"))?;
                let done = self.database.settle(name).await.map_err(|error| status::from_error(&error))?;
                Ok(Some(Bytes::from_static(if done { b"1" } else { b"0" })))
            }
            "HealthCheck" => Ok(None),
            other => Err(Status::unimplemented(format!("unknown action {other:?}"))),
        }
    }

    /// Cancels the queries behind the tickets of a FlightInfo.
    fn cancel_info(&self, caller: &Caller, info: &FlightInfo) -> Result<CancelStatus, Status> {
        let mut found = false;
        for ticket in info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref()) {
            found |= self.cancel(caller, &query::id_of_ticket(&ticket.ticket)?);
        }
        match found {
            true => Ok(CancelStatus::Cancelled),
            false => Err(Status::not_found("no such query: it has ended, was cancelled or has expired")),
        }
    }

    /// Sets a savepoint in a transaction. Its id is the transaction's with the name behind it.
    async fn begin_savepoint(&self, caller: &Caller, request: ActionBeginSavepointRequest) -> Result<ActionBeginSavepointResult, Status> {
        let slot = self.transaction(caller, &request.transaction_id)?;
        let name = savepoint_name(&request.name)?;
        slot.execute(&format!("SAVEPOINT {name}"), Parameters::None).await?;
        let savepoint_id = [&request.transaction_id[..], request.name.as_bytes()].concat().into();
        Ok(ActionBeginSavepointResult { savepoint_id })
    }

    /// Releases a savepoint or rolls back to it.
    async fn end_savepoint(&self, caller: &Caller, request: ActionEndSavepointRequest) -> Result<(), Status> {
        // The enumeration of the action is not public in arrow-flight: 1 releases, 2 rolls back.
        let verb = match request.action {
            1 => "RELEASE SAVEPOINT",
            2 => "ROLLBACK TO SAVEPOINT",
            _ => return Err(invalid("say whether to release the savepoint or to roll back to it")),
        };
        let id = &request.savepoint_id;
        let split = id
            .split_at_checked(ticket::LENGTH)
            .ok_or_else(|| invalid("not a savepoint of this server"))?;
        let name = std::str::from_utf8(split.1).map_err(|_| invalid("not a savepoint of this server"))?;
        let slot = self.transaction(caller, split.0)?;
        slot.execute(&format!("{verb} {}", savepoint_name(name)?), Parameters::None)
            .await
            .map(drop)
    }
}

/// A savepoint's name as SQL takes it.
fn savepoint_name(name: &str) -> Result<String, Status> {
    match name.is_empty() || name.len() > 128 {
        true => Err(invalid("a savepoint's name has 1 to 128 bytes")),
        false => Ok(format!("\"{}\"", name.replace('"', "\"\""))),
    }
}

/// A message of Flight SQL, wrapped in `Any`.
fn unpack<M: ProstMessageExt>(body: &[u8]) -> Result<M, Status> {
    let any: Any = decode(body)?;
    let message = any.unpack().map_err(|error| invalid(error.to_string()))?;
    message.ok_or_else(|| invalid(format!("the action's body is {:?}, not {:?}", any.type_url, M::type_url())))
}

fn pack<M: ProstMessageExt>(message: M) -> Option<Bytes> {
    Some(message.as_any().encode_to_vec().into())
}

/// A message of Flight itself.
fn decode<M: Message + Default>(body: &[u8]) -> Result<M, Status> {
    M::decode(body).map_err(|error| invalid(format!("the action's body is damaged: {error}")))
}

fn plain<M: Message>(message: M) -> Option<Bytes> {
    Some(message.encode_to_vec().into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_another_kind_are_refused() {
        let body = pack(ActionBeginTransactionRequest {}).unwrap();
        assert!(unpack::<ActionBeginTransactionRequest>(&body).is_ok());
        assert!(unpack::<ActionEndTransactionRequest>(&body).is_err());
        assert!(unpack::<ActionEndTransactionRequest>(b"nonsense").is_err());
    }

    #[test]
    fn savepoint_names_are_quoted() {
        assert_eq!(savepoint_name("a\"b").unwrap(), "\"a\"\"b\"");
        assert!(savepoint_name("").is_err() && savepoint_name(&"x".repeat(129)).is_err());
    }
}
