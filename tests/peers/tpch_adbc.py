"""TPC-H SF 1 through ADBC, with DuckDB's own tables (two threads) in the same run: load, 22 queries (best of three), cold start.

    PYRALOG_BIN=target/release/pyralog python tests/peers/tpch_adbc.py

Run the SQL check with TPCH_SF=1 once before: it makes the Parquet files. Needs the packages of the checks.
"""
import sys, time, pathlib, os, tempfile

SHARED = pathlib.Path(os.environ.get("PYRALOG_SHARED", pathlib.Path(__file__).resolve().parents[2].parent / "shared"))
sys.path.insert(0, str(SHARED / "checks"))
import adbc_driver_flightsql.dbapi as dbapi, duckdb, pyarrow as pa, pyarrow.parquet as pq
from pyralog import Server
CAP="adbc.flight.sql.client_option.with_max_msg_size"
d = pathlib.Path(tempfile.gettempdir()) / 'pyralog-tpch-1'
T=["region","nation","supplier","customer","part","partsupp","orders","lineitem"]
K={"region":"r_regionkey","nation":"n_nationkey","supplier":"s_suppkey","customer":"c_custkey","part":"p_partkey","partsupp":"ps_partkey, ps_suppkey","orders":"o_orderkey","lineitem":"l_orderkey, l_linenumber"}
duck=duckdb.connect(); duck.execute("set threads=2")
for t in T: duck.execute(f"create table {t} as select * from '{d}/{t}.parquet'")
Q=SHARED / 'checks' / 'tpch'
with Server(extra=("--memory-limit","4GB")) as s:
    con=dbapi.connect(s.flight,db_kwargs={CAP:str(64<<20)},autocommit=True); cur=con.cursor()
    t0=time.time(); peak=0
    for t in T:
        sc=pq.read_schema(f"{d}/{t}.parquet")
        ty={"int64":"BIGINT","int32":"INT","date32[day]":"DATE","string":"VARCHAR","string_view":"VARCHAR","large_string":"VARCHAR"}
        cur.execute(f"CREATE TABLE {t} ({', '.join(f.name+' '+ty.get(str(f.type),'DECIMAL(15,2)') for f in sc)}, PRIMARY KEY ({K[t]}))")
        f=pq.ParquetFile(f"{d}/{t}.parquet")
        r=pa.RecordBatchReader.from_batches(f.schema_arrow, f.iter_batches(65536))
        cur.adbc_ingest(t,r,mode="append"); peak=max(peak,s.rss_mb())
    print("load s",round(time.time()-t0,2),"rss MB",round(peak))
    cur.execute("CHECKPOINT")
    tot=totd=0
    for i in range(1,23):
        st=[x for x in (Q/f"q{i}.sql").read_text().split(";") if x.strip()]
        def run(c,fetch):
            t=time.time()
            for x in st:
                c.execute(x)
                if x.strip().lower().startswith(("select","with")): fetch(c)
            return time.time()-t
        a=min(run(cur,lambda c:c.fetch_arrow_table()) for _ in range(3)); b=min(run(duck,lambda c:c.fetchall()) for _ in range(3))
        tot+=a; totd+=b; print(f"q{i} {a*1000:.0f} {b*1000:.0f}",end="; ",flush=True)
    print("\ntotal",round(tot,2),"duckdb",round(totd,2))
    con.close(); s.stop(); t=time.time(); s.start(); print("cold start s",round(time.time()-t,2))
    con=s.adbc(); cur=con.cursor(); cur.execute("select count(*) from lineitem"); print(cur.fetchone())
