//! A server over a database of its own, on a free port.

use std::path::PathBuf;

use arrow_flight::sql::client::FlightSqlServiceClient;
use pyralog_models::Database;
use pyralog_server::flight::{FlightOptions, FlightServer, FlightServerError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

pub type Client = FlightSqlServiceClient<Channel>;

/// A server over a database of its own; both go when it is dropped.
pub struct Fixture {
    pub url: String,
    pub directory: PathBuf,
    pub stop: Option<oneshot::Sender<()>>,
    pub served: Option<JoinHandle<Result<(), FlightServerError>>>,
}

impl Fixture {
    pub async fn start() -> Self {
        Self::with(FlightOptions::default()).await
    }

    pub async fn with(options: FlightOptions) -> Self {
        let directory = std::env::temp_dir().join(format!("pyralog-flight-{}", uuid::Uuid::new_v4()));
        let database = Database::open(&directory).await.unwrap();
        let server = FlightServer::bind(database, "127.0.0.1:0".parse().unwrap(), options).await.unwrap();
        let url = format!("http://{}", server.address());
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(server.serve(async move {
            let _ = stopped.await;
        }));
        Fixture {
            url,
            directory,
            stop: Some(stop),
            served: Some(served),
        }
    }

    pub async fn channel(&self) -> Channel {
        Endpoint::new(self.url.clone()).unwrap().connect().await.unwrap()
    }

    pub async fn client(&self) -> Client {
        FlightSqlServiceClient::new(self.channel().await)
    }

    /// A client with a session, as after a handshake.
    pub async fn client_with_session(&self) -> Client {
        let mut client = self.client().await;
        client.handshake("ann", "secret").await.unwrap();
        client
    }

    pub async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.served.take().unwrap().await.unwrap().unwrap();
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
