"""An empty node joins three that hold a gigabyte and take writes: how long, and what the writers notice.

    PYRALOG_BIN=target/release/pyralog python tests/cluster/catch_up.py [gigabytes]
"""

import sys
import threading
import time

from local import Cluster, percentile, put, sql

GIGABYTES = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
STEP = 500_000
WRITERS = 8


def main() -> None:
    cluster = Cluster(24100, "512MB")
    nodes = cluster.nodes()
    sql(nodes[0], "CREATE TABLE big (id BIGINT PRIMARY KEY, text VARCHAR, number DOUBLE)")
    sql(nodes[0], "CREATE COLLECTION bench AS KV")
    rows, begun = int(GIGABYTES * 1e9 / 120), time.monotonic()
    for start in range(0, rows, STEP):
        source = f"generate_series({start}, {min(rows, start + STEP) - 1})"
        sql(nodes[0], f"INSERT INTO big SELECT value, repeat(md5(CAST(value AS VARCHAR)), 3), value * 1.5 FROM {source}")
    print(f"{rows} rows loaded in {time.monotonic() - begun:.1f} s")
    stop, times = threading.Event(), []

    def write(writer: int) -> None:
        written = 0
        while not stop.is_set():
            asked = time.monotonic()
            put(nodes[writer % 3], "bench", f"{writer}-{written}")
            times.append((asked, time.monotonic() - asked))
            written += 1

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for writer in writers:
        writer.start()
    before_for = 8.0
    time.sleep(before_for)
    added = time.monotonic()
    cluster.run("add")
    voted = time.monotonic()
    time.sleep(3)
    stop.set()
    for writer in writers:
        writer.join()
    sums = [sql(node, "SELECT count(*) AS n, sum(id) AS s FROM big")["rows"] for node in cluster.nodes()]
    assert len(sums) == 4 and all(each == sums[0] for each in sums), sums
    before = [wait for asked, wait in times if asked < added]
    during = [wait for asked, wait in times if added <= asked < voted]
    print(
        f"the new node voted after {voted - added:.1f} s; puts/s {len(before) / before_for:.0f} before, {len(during) / (voted - added):.0f} meanwhile; "
        f"p99 {percentile(before, 0.99) * 1e3:.1f} and {percentile(during, 0.99) * 1e3:.1f} ms, most {max(during) * 1e3:.0f} ms; no error"
    )
    cluster.end()


main()
