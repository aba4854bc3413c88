"""A job that loads the log of a store into pandas, and asks DuckDB about it.

    pip install pandas duckdb
    python examples/python/report.py ws://127.0.0.1:8000 team-7

The store stays in memory: each run pulls the whole log. Give it a file, and a run pulls only what is new.
"""

import sys

from todos import schema

from livesync_trio.livestore import open_store_blocking

LOG = "SELECT seq_num, name, args, client_id FROM livesync_log ORDER BY seq_num"


def load(url, store_id, file=":memory:"):
    """All events of a store, and its tables."""
    with open_store_blocking(file, schema, store_id=store_id, url=url, on_unknown="ignore") as store:
        store.synced(timeout_s=300)
        return store.query(LOG), store.query("SELECT * FROM todos")


def main(url, store_id):
    import duckdb
    import pandas

    events, todos = load(url, store_id)
    print(pandas.DataFrame(todos)["completed"].value_counts())
    log = duckdb.from_df(pandas.DataFrame(events))
    print(log.aggregate("client_id, name, count(*) AS events").order("events DESC"))
    print(log.filter("name = 'v1.TodoCreated'").project("json_extract_string(args, '$.text') AS text"))


if __name__ == "__main__":
    main(*sys.argv[1:])
