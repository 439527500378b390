"""What several partitions cost, or gain: TPC-H, puts and reads of keys with each number of them, in turns, in one run.

    TPCH_SF=1 PYRALOG_BIN=target/release/pyralog python tests/peers/partitions.py [1 4 8 3x1 3x8]

One server for each, all with the same rows. `3x8`: a cluster of three nodes with eight partitions, which share the machine; the third is asked.
`3x8:always`: the same, with `distributed = always` (or `off`, `auto`). `8+by`: tables with keys of two columns are `PARTITION BY` the first of them.
`PUT_SECONDS=0`: TPC-H only.
Needs what `tpch.py` needs.
"""
import contextlib, http.client, os, socket, statistics, sys, threading, time

import tpch
import pyralog

COUNTS = sys.argv[1:] or ["1", "4", "8"]
PUT_SECONDS = int(os.environ.get("PUT_SECONDS", "4"))
BINARY = os.path.abspath(os.environ.get("PYRALOG_BIN", "target/release/pyralog"))
CLUSTER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster", "as_one.py")


def server(count):
    """A server with so many partitions, which may be the third node of three."""
    count, _, mode = count.replace("+by", "").partition(":")
    nodes, _, partitions = count.rpartition("x")
    os.environ["PYRALOG_DISTRIBUTED"] = mode or "auto"
    assert nodes in ("", "3"), count
    os.environ["PYRALOG_REAL_BIN"] = BINARY
    pyralog.BIN = CLUSTER if nodes else BINARY
    return tpch.Server(extra=("--memory-limit", tpch.MEMORY, "--partitions", partitions))


def requests(server, clients, method):
    """Puts (or gets of what was put) a second, and the median of their latencies in milliseconds."""
    until, latencies = time.time() + PUT_SECONDS, []

    def work(client):
        connection = http.client.HTTPConnection("127.0.0.1", server.http_port)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = 0
        while time.time() < until:
            started = time.perf_counter()
            key = number if method == "PUT" else number % 100
            connection.request(method, f"/kv/bucket/{clients}-{client}-{key}", body=b"x" * 100 if method == "PUT" else None)
            answer = connection.getresponse()
            answer.read()
            assert answer.status < 300, answer.status
            latencies.append(time.perf_counter() - started)
            number += 1

    threads = [threading.Thread(target=work, args=(client,)) for client in range(clients)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return len(latencies) / PUT_SECONDS, statistics.median(latencies) * 1e3


def definition(folder, table, count):
    text, keys = tpch.definition(folder, table), tpch.KEYS[table].split(", ")
    return f"{text} PARTITION BY ({keys[0]})" if "+by" in count and len(keys) > 1 else text


def load(cursor, folder, count):
    started = time.perf_counter()
    for table in tpch.KEYS:
        cursor.execute(definition(folder, table, count))
        cursor.execute(f"INSERT INTO {table} SELECT * FROM '{folder}/{table}.parquet'")
    cursor.execute("CHECKPOINT")
    return time.perf_counter() - started


def main():
    folder = tpch.parquet_files()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(server(count)) for count in COUNTS]
        connections = [stack.enter_context(tpch.dbapi.connect(server.flight, autocommit=True)) for server in servers]
        cursors = [stack.enter_context(connection.cursor()) for connection in connections]
        loads = [load(cursor, folder, count) for cursor, count in zip(cursors, COUNTS)]
        print("partitions     " + "".join(f"{count:>12}" for count in COUNTS))
        print("load s         " + "".join(f"{seconds:>12.2f}" for seconds in loads))
        totals = [0.0] * len(servers)
        for number, statements in tpch.queries():
            best = [float("inf")] * len(servers)
            for _ in range(tpch.RUNS):
                for i, cursor in enumerate(cursors):
                    best[i] = min(best[i], tpch.timed(lambda: tpch.run(cursor, statements, lambda c: c.fetch_arrow_table())))
            totals = [total + seconds for total, seconds in zip(totals, best)]
            print(f"{'q' + str(number) + ' ms':15}" + "".join(f"{seconds * 1e3:>12.0f}" for seconds in best))
        print("22 queries ms  " + "".join(f"{seconds * 1e3:>12.0f}" for seconds in totals))
        if not PUT_SECONDS:
            return
        [cursor.execute("CREATE COLLECTION bucket AS KV") for cursor in cursors]
        for method, clients in (("PUT", 1), ("PUT", 16), ("GET", 1), ("GET", 16)):
            rates = [[requests(server, clients, method) for server in servers] for _ in range(2)]
            best = [max(turn[i] for turn in rates) for i in range(len(servers))]
            print(f"{method.lower()}s/s, {clients:>2}".ljust(15) + "".join(f"{rate:>12.0f}" for rate, _ in best))
            print("  median ms    " + "".join(f"{median:>12.2f}" for _, median in best))


main()
