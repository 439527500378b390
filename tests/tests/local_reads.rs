//! `read_consistency = local`: what a node has, without asking others.

use std::time::{Duration, Instant};

use pyralog_client::ErrorKind;
use pyralog_tests::cluster::Cluster;
use pyralog_tests::runtime::block_on;

#[test]
fn a_node_without_a_majority_tells_what_it_has() {
    let cluster = Cluster::up(3, "300MB");
    block_on(async {
        let nodes = cluster.nodes();
        let (writer, reader) = (nodes[0].client().await.unwrap(), nodes[2].client().await.unwrap());
        writer
            .sql("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT)")
            .execute()
            .await
            .unwrap();
        writer.sql("INSERT INTO t VALUES (1, 1), (2, 2)").execute().await.unwrap();
        // Linearizable: there at once. From then on the node has it.
        let count = || reader.sql("SELECT count(*) FROM t").fetch_scalar::<i64>();
        assert_eq!(count().await.unwrap(), 2);
        nodes[0].signal("KILL");
        nodes[1].signal("KILL");
        let refused = count().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
        reader.sql("SET read_consistency = 'local'").execute().await.unwrap();
        let asked = Instant::now();
        assert_eq!(count().await.unwrap(), 2);
        let bound = reader.sql("SELECT n FROM t WHERE id = $1").bind(2);
        assert_eq!(bound.fetch_scalar::<i64>().await.unwrap(), 2);
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        // Writes are never content with that.
        let tx = reader.begin().await.unwrap();
        assert!(tx.sql("INSERT INTO t VALUES (3, 3)").execute().await.is_err());
        drop(tx);
        let wrong = reader.sql("SET read_consistency = 'eventual'").execute().await.unwrap_err();
        assert!(wrong.message().contains("linearizable or local"), "{wrong}");
    });
}
