"""Kills the leader again and again: how long until puts at another node go through, without a retry by the client.

    PYRALOG_BIN=target/release/pyralog python tests/cluster/failover.py [kills]
"""

import os
import signal
import sys
import time

from local import Cluster, percentile, put, sql

KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 50


def main() -> None:
    cluster = Cluster(23100, "300MB")
    sql(cluster.nodes()[0], "CREATE COLLECTION bench AS KV")
    waits, keys = [], 0
    for kill in range(KILLS):
        leader = cluster.leader()
        other = [node for node in cluster.nodes() if node["id"] != leader["id"]][kill % 2]
        for _ in range(20):
            put(other, "bench", f"key-{keys}")
            keys += 1
        os.kill(leader["pid"], signal.SIGKILL)
        worst = 0.0
        for _ in range(30):
            begun = time.monotonic()
            put(other, "bench", f"key-{keys}")
            keys += 1
            worst = max(worst, time.monotonic() - begun)
        waits.append(worst)
        cluster.run("restart", str(leader["id"]))
        time.sleep(0.5)
    count = sql(cluster.nodes()[0], "SELECT count(*) AS n FROM bench")["rows"][0][0]
    assert count == keys, f"{keys} puts were acknowledged, {count} are there"
    p50, p99 = percentile(waits, 0.5), percentile(waits, 0.99)
    print(f"{KILLS} kills of the leader: a put at another node waited {p50:.2f} s (median), {p99:.2f} s (p99), {max(waits):.2f} s (most); no error")
    cluster.end()


main()
