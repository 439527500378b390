"""Runs a check script with ADBC's message cap raised: python run_check.py CHECK.py

The ADBC Flight SQL driver refuses, before anything is sent, to send a message above 16 MiB, and sends each batch of a table as one message.
A Parquet row group of TPC-H's lineitem is larger than that, so bulk ingest of it needs the driver's own option for larger messages.
"""
import pathlib, runpy, sys

import adbc_driver_flightsql.dbapi as dbapi

CAP = "adbc.flight.sql.client_option.with_max_msg_size"
connect = dbapi.connect


def connect_with_larger_messages(uri, db_kwargs=None, **kwargs):
    return connect(uri, db_kwargs={CAP: str(64 << 20), **(db_kwargs or {})}, **kwargs)


dbapi.connect = connect_with_larger_messages
check = pathlib.Path(sys.argv[1]).resolve()
sys.path.insert(0, str(check.parent))
sys.argv = sys.argv[1:]
runpy.run_path(str(check), run_name="__main__")
