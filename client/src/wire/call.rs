//! The calls: log in, run an action, plan a command, stream a ticket, put messages.

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::sql::{Any, DoPutUpdateResult};
use arrow_flight::{Action, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, PutResult, Ticket};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use prost::Message;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Request, Response, Status};

use super::{Deadline, Name, PeerId, Wire};
use crate::error::{ClientError, ErrorKind, Result};

impl Wire {
    /// Logs in at a server where a login was given and no token is kept yet.
    pub async fn log_in(&self, peer: PeerId) -> Result<()> {
        let Some(login) = &self.config.credentials else { return Ok(()) };
        if self.with_session(peer, |session| session.has_token()) {
            return Ok(());
        }
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", login.user, login.password)));
        let basic = basic
            .parse::<AsciiMetadataValue>()
            .map_err(|error| ClientError::usage("the login cannot be sent").with_source(error))?;
        let mut request = Request::new(futures::stream::iter([HandshakeRequest::default()]));
        request.metadata_mut().insert("authorization", basic);
        let response = self.peer(peer).flight().handshake(request).await?;
        let granted = self.with_session(peer, |session| {
            session.keep_cookies(response.metadata());
            session.keep_token(response.metadata())
        });
        let _payload: Vec<_> = response.into_inner().try_collect().await?;
        if granted {
            Ok(())
        } else {
            Err(ClientError::new(
                ErrorKind::Unauthenticated,
                "the server took the login but gave no token",
            ))
        }
    }

    /// Runs an action and reads its answers to the end (an error can come last).
    pub async fn action(&self, peer: PeerId, name: &str, body: impl Into<Bytes>, deadline: Deadline) -> Result<Vec<Bytes>> {
        self.named_action(peer, name, body, deadline, None).await
    }

    /// As [`Wire::action`], as a request with a name.
    pub async fn named_action(
        &self,
        peer: PeerId,
        action: &str,
        body: impl Into<Bytes>,
        deadline: Deadline,
        name: Option<&Name>,
    ) -> Result<Vec<Bytes>> {
        let action = Action {
            r#type: action.to_owned(),
            body: body.into(),
        };
        let mut request = self.request(peer, action, deadline);
        if let Some(name) = name {
            name.mark(request.metadata_mut());
        }
        let call = async {
            let response = self.answer(peer, self.peer(peer).flight().do_action(request).await)?;
            Ok(response.map_ok(|result| result.body).try_collect().await?)
        };
        deadline.bound(call).await
    }

    /// Runs an action that gives exactly one Flight SQL message.
    pub async fn action_result(&self, peer: PeerId, name: &str, body: Any, deadline: Deadline) -> Result<Any> {
        let answers = self.action(peer, name, body.encode_to_vec(), deadline).await?;
        let first = answers
            .first()
            .ok_or_else(|| ClientError::protocol(format!("the server gave no result for {name}")))?;
        Ok(Any::decode(first.as_ref())?)
    }

    /// Plans (and for writes, runs) a command.
    pub async fn flight_info(&self, peer: PeerId, command: Any, deadline: Deadline) -> Result<FlightInfo> {
        let request = self.request(peer, FlightDescriptor::new_cmd(command.encode_to_vec()), deadline);
        deadline
            .bound(async { self.answer(peer, self.peer(peer).flight().get_flight_info(request).await) })
            .await
    }

    /// Starts streaming a result. Dropping the stream resets the call, which cancels the work at the server.
    pub async fn stream(&self, peer: PeerId, ticket: Ticket, deadline: Deadline) -> Result<FlightRecordBatchStream> {
        let request = self.request(peer, ticket, deadline);
        let data = deadline
            .bound(async { self.answer(peer, self.peer(peer).flight().do_get(request).await) })
            .await?;
        Ok(FlightRecordBatchStream::new_from_flight_data(data.map_err(Into::into)))
    }

    /// Puts messages, as a request with a name if one is given, and reads the answers to the end.
    pub async fn put<S>(&self, peer: PeerId, messages: S, deadline: Deadline, name: Option<&Name>) -> Result<Vec<PutResult>>
    where
        S: Stream<Item = FlightData> + Send + 'static,
    {
        let mut request = self.request(peer, messages, deadline);
        if let Some(name) = name {
            name.mark(request.metadata_mut());
        }
        let call = async {
            let answers = self.answer(peer, self.peer(peer).flight().do_put(request).await)?;
            Ok(answers.try_collect().await?)
        };
        deadline.bound(call).await
    }

    /// A request with the session's token and cookies.
    pub(super) fn request<M>(&self, peer: PeerId, message: M, deadline: Deadline) -> Request<M> {
        let mut request = Request::new(message);
        self.with_session(peer, |session| session.mark(request.metadata_mut()));
        if let Some(left) = deadline.remaining() {
            request.set_timeout(left);
        }
        request
    }

    /// The message of an answer; its cookies (also those of an error) are kept.
    pub(super) fn answer<M>(&self, peer: PeerId, answer: Result<Response<M>, Status>) -> Result<M> {
        let keep = |headers: &MetadataMap| {
            self.with_session(peer, |session| session.keep_cookies(headers));
            if let Some(leader) = headers.get("pyralog-leader").and_then(|value| value.to_str().ok()) {
                self.learn_leader(leader);
            }
        };
        match answer {
            Ok(response) => {
                keep(response.metadata());
                Ok(response.into_inner())
            }
            Err(status) => {
                keep(status.metadata());
                Err(status.into())
            }
        }
    }

    pub(super) fn with_session<T>(&self, peer: PeerId, act: impl FnOnce(&mut super::Session) -> T) -> T {
        // A panic elsewhere cannot leave a session half changed: each change is one assignment or push.
        let peer = self.peer(peer);
        let mut session = peer.session.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        act(&mut session)
    }
}

/// The row count of an update or upload, from its answers; `None` where the server does not know it.
pub(crate) fn affected_rows(answers: &[PutResult]) -> Result<Option<u64>> {
    let last = answers
        .last()
        .ok_or_else(|| ClientError::protocol("the server ended the call without a result"))?;
    let result = DoPutUpdateResult::decode(last.app_metadata.as_ref())?;
    Ok(u64::try_from(result.record_count).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn counted(record_count: i64) -> PutResult {
        PutResult {
            app_metadata: DoPutUpdateResult { record_count }.encode_to_vec().into(),
        }
    }

    #[test]
    fn counts_are_read() {
        assert_eq!(affected_rows(&[counted(7)]).unwrap(), Some(7));
        assert_eq!(affected_rows(&[counted(-1)]).unwrap(), None);
        assert_eq!(affected_rows(&[]).unwrap_err().kind(), ErrorKind::Protocol);
        let nonsense = PutResult {
            app_metadata: vec![0xff; 9].into(),
        };
        assert_eq!(affected_rows(&[nonsense]).unwrap_err().kind(), ErrorKind::Protocol);
    }
}
