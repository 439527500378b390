"""TPC-H through ADBC beside DuckDB in one run: load from Parquet with primary keys, 22 queries (best of three), restart.

    TPCH_SF=1 PYRALOG_BIN=target/release/pyralog python tests/peers/tpch.py

DuckDB runs in this process on a database file with two threads. Both load the same Parquet files, both enforce the keys, both are durable
at the end. Needs the packages of the checks (adbc-driver-flightsql, duckdb, pyarrow, tpchgen-cli) and `shared` beside the repository, or
PYRALOG_SHARED, for the queries.
"""
import os, pathlib, subprocess, sys, tempfile, time

SHARED = pathlib.Path(os.environ.get("PYRALOG_SHARED", pathlib.Path(__file__).resolve().parents[2].parent / "shared"))
sys.path.insert(0, str(SHARED / "checks"))
import adbc_driver_flightsql.dbapi as dbapi, duckdb, pyarrow.parquet as pq
from pyralog import Server

SCALE = os.environ.get("TPCH_SF", "1")
MEMORY = os.environ.get("PYRALOG_MEMORY", "4GB")
RUNS = 3
KEYS = {"region": "r_regionkey", "nation": "n_nationkey", "supplier": "s_suppkey", "customer": "c_custkey", "part": "p_partkey",
        "partsupp": "ps_partkey, ps_suppkey", "orders": "o_orderkey", "lineitem": "l_orderkey, l_linenumber"}
TYPES = {"int64": "BIGINT", "int32": "INT", "date32[day]": "DATE"}


def parquet_files():
    """The folder of the eight tables; generated once."""
    folder = pathlib.Path(tempfile.gettempdir()) / f"pyralog-tpch-{SCALE}"
    if not (folder / "lineitem.parquet").exists():
        generator = pathlib.Path(sys.executable).parent / "tpchgen-cli"
        subprocess.run([str(generator), "parquet", "-s", SCALE, "-o", str(folder)], check=True, capture_output=True)
    return folder


def definition(folder, table):
    columns = []
    for field in pq.read_schema(folder / f"{table}.parquet"):
        kind = str(field.type)
        sql = TYPES.get(kind) or ("DECIMAL(15,2)" if kind.startswith("decimal") else "VARCHAR")
        columns.append(f"{field.name} {sql}")
    return f"CREATE TABLE {table} ({', '.join(columns)}, PRIMARY KEY ({KEYS[table]}))"


def timed(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def load(server, cursor, duck, folder):
    ours = theirs = peak = 0
    for table in KEYS:
        create = definition(folder, table)
        copy = f"INSERT INTO {table} SELECT * FROM '{folder}/{table}.parquet'"
        ours += timed(lambda: (cursor.execute(create), cursor.execute(copy)))
        peak = max(peak, server.rss_mb())
        theirs += timed(lambda: (duck.execute(create), duck.execute(copy)))
    ours += timed(lambda: cursor.execute("CHECKPOINT"))
    theirs += timed(lambda: duck.execute("CHECKPOINT"))
    print(f"load: Pyralog {ours:.2f} s, DuckDB {theirs:.2f} s, ratio {ours / theirs:.2f}; resident after a table: {peak:.0f} MB at most")


def queries():
    for number in range(1, 23):
        text = (SHARED / "checks" / "tpch" / f"q{number}.sql").read_text()
        yield number, [statement for statement in text.split(";") if statement.strip()]


def run(connection, statements, fetch):
    for statement in statements:
        connection.execute(statement)
        if statement.strip().lower().startswith(("select", "with")):
            fetch(connection)


def compare(cursor, duck):
    total = [0.0, 0.0]
    print(f"{'query':>6} {'Pyralog ms':>11} {'DuckDB ms':>10} {'ratio':>6}")
    for number, statements in queries():
        ours = min(timed(lambda: run(cursor, statements, lambda c: c.fetch_arrow_table())) for _ in range(RUNS))
        theirs = min(timed(lambda: run(duck, statements, lambda c: c.fetchall())) for _ in range(RUNS))
        total[0] += ours
        total[1] += theirs
        print(f"{'q' + str(number):>6} {ours * 1e3:>11.0f} {theirs * 1e3:>10.0f} {ours / theirs:>6.2f}")
    print(f"{'total':>6} {total[0] * 1e3:>11.0f} {total[1] * 1e3:>10.0f} {total[0] / total[1]:>6.2f}")


def restart(server):
    server.stop()
    took = timed(server.start)
    with server.adbc() as connection, connection.cursor() as cursor:
        first = timed(lambda: (cursor.execute("SELECT count(*) FROM lineitem"), cursor.fetchone()))
    print(f"ready {took:.2f} s after a restart, first count {first * 1e3:.0f} ms later")


def main():
    folder = parquet_files()
    print(f"TPC-H SF {SCALE}, DuckDB {duckdb.__version__}, memory limit {MEMORY}")
    with tempfile.TemporaryDirectory() as scratch, Server(extra=("--memory-limit", MEMORY)) as server:
        duck = duckdb.connect(f"{scratch}/peer.duckdb")
        duck.execute("SET threads = 2")
        with dbapi.connect(server.flight, autocommit=True) as connection, connection.cursor() as cursor:
            load(server, cursor, duck, folder)
            compare(cursor, duck)
        duck.close()
        restart(server)


if __name__ == "__main__":
    main()
