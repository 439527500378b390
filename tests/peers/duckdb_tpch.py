"""DuckDB's times for TPC-H beside `cargo bench -p pyralog-tests --bench tpch`: own tables with primary keys, two threads, best of three.

    TPCH_SF=1 python tests/peers/duckdb_tpch.py

Needs the package duckdb (its tpch extension generates the data). The queries come from PYRALOG_SHARED, or from the folder
`shared` beside the repository; without either, from the extension.
"""
import os, pathlib, sys, time

try:
    import duckdb
except ImportError:
    sys.exit("skipped: the python package duckdb is not installed")

SCALE = float(os.environ.get("TPCH_SF", "0.1"))
KEYS = {"region": "r_regionkey", "nation": "n_nationkey", "supplier": "s_suppkey", "customer": "c_custkey", "part": "p_partkey",
        "partsupp": "ps_partkey, ps_suppkey", "orders": "o_orderkey", "lineitem": "l_orderkey, l_linenumber"}
shared = pathlib.Path(os.environ.get("PYRALOG_SHARED", pathlib.Path(__file__).resolve().parents[2].parent / "shared")) / "checks" / "tpch"

db = duckdb.connect()
db.execute("SET threads = 2")
db.execute("INSTALL tpch; LOAD tpch")
db.execute(f"CALL dbgen(sf = {SCALE})")
started = time.perf_counter()
for table, key in KEYS.items():
    db.execute(f"CREATE TABLE own_{table} AS FROM {table} LIMIT 0")
    db.execute(f"ALTER TABLE own_{table} ADD PRIMARY KEY ({key})")
    db.execute(f"INSERT INTO own_{table} FROM {table}")
    db.execute(f"DROP TABLE {table}")
    db.execute(f"ALTER TABLE own_{table} RENAME TO {table}")
print(f"DuckDB {duckdb.__version__}, SF {SCALE}: loaded with primary keys in {time.perf_counter() - started:.2f} s")


def statements(number):
    if shared.is_dir():
        return [part for part in (shared / f"q{number}.sql").read_text().split(";") if part.strip()]
    return [db.execute(f"SELECT query FROM tpch_queries() WHERE query_nr = {number}").fetchone()[0]]


total = 0.0
for number in range(1, 23):
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        for statement in statements(number):
            db.execute(statement).fetchall()
        best = min(best, time.perf_counter() - started)
    total += best
    print(f"q{number:<4} {best * 1e3:>10.1f} ms")
print(f"total {total * 1e3:>10.1f} ms")
