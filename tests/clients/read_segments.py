"""Segments as other programs see them: a bulk-loaded table is read whole by pyarrow, Polars and DuckDB, without the server.

Needs PYRALOG_BIN and the packages pyarrow, polars, duckdb, adbc-driver-flightsql, adbc-driver-manager.
"""
import os, pathlib, socket, subprocess, sys, tempfile, time, urllib.request

import adbc_driver_flightsql.dbapi as dbapi
import duckdb, polars, pyarrow as pa

ROWS = 100_000


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(directory, flight, http):
    process = subprocess.Popen([os.environ["PYRALOG_BIN"], "serve", "--data-dir", directory, "--flight-addr", f"127.0.0.1:{flight}",
                                "--http-addr", f"127.0.0.1:{http}"], stdout=subprocess.DEVNULL)
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{http}/health", timeout=2)
            return process
        except OSError:
            time.sleep(0.1)
    sys.exit("the server was not ready in 30 s")


with tempfile.TemporaryDirectory() as directory:
    flight, http = free_port(), free_port()
    process = start(directory, flight, http)
    try:
        with dbapi.connect(f"grpc://127.0.0.1:{flight}", autocommit=True) as db, db.cursor() as cursor:
            cursor.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR, price DECIMAL(10,2))")
            cursor.execute(f"INSERT INTO t SELECT value, concat('row ', value), value % 100 FROM generate_series(1, {ROWS}) AS g(value)")
            cursor.execute("CHECKPOINT")
    finally:
        process.terminate()
        process.wait(30)

    segments = [str(p) for p in sorted(pathlib.Path(directory, "partitions").rglob("*.arrow")) if not p.name.endswith(".idx.arrow")]
    assert segments, "no segments"
    tables = []
    for segment in segments:
        with pa.memory_map(segment) as file:
            tables.append(pa.ipc.open_file(file).read_all().select(["id", "name", "price"]))
    rows = pa.concat_tables(tables)
    assert rows.num_rows == ROWS, rows.num_rows
    frame = polars.concat([polars.read_ipc(segment).select("id", "name") for segment in segments])
    assert frame["id"].sum() == ROWS * (ROWS + 1) // 2
    assert duckdb.sql("SELECT count(*), max(id), sum(price) FROM rows").fetchall() == [(ROWS, ROWS, ROWS // 100 * 4950)]
    print(f"{len(segments)} segments, {ROWS} rows: read by pyarrow {pa.__version__}, Polars {polars.__version__}, DuckDB {duckdb.__version__}")
    print("3 passed, 0 failed")
