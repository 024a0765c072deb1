# SPDX-License-Identifier: AGPL-3.0-only
"""The bare database floor: the rows that the agents have written for some operations, written again without an agent.

Rows are read out of the agents' tables beforehand, in PostgreSQL's binary form. Then all three databases take them at the same
time, as fast as they can: in batches, by COPY into tables that are copies of the agents' with their indexes, a transaction for
what is there when an operation enters and one for what its end changes. COPY is the fastest way in that there is; the agents
cannot use it, since they must cope with rows that are there already.
"""
import io
import multiprocessing
import time

import psycopg2

BATCH = 256
BY_OPERATION = {"operation": "id", "execution": "operation", "event": "operation", "idempotency_key": "operation"}


def columns(cursor, table):
    """Those that are written: neither generated nor an identity."""
    cursor.execute("""SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0
        AND NOT attisdropped AND attgenerated = '' AND attidentity = '' ORDER BY attnum""", (f"cheops.{table}",))
    return ", ".join(row[0] for row in cursor.fetchall())


def read(cursor, ids):
    """table -> its rows of these operations, as COPY takes them."""
    chunks = {}
    for table, key in BY_OPERATION.items():
        names = columns(cursor, table)
        data = io.BytesIO()
        query = cursor.mogrify(f"SELECT {names} FROM cheops.{table} WHERE {key} = ANY (%s::uuid[])", (ids,)).decode()
        cursor.copy_expert(f"COPY ({query}) TO STDOUT BINARY", data)
        chunks[table] = (names, data.getvalue())
    return chunks


def write(cursor, ids, chunks, others, first):
    """One batch: what enters, and what its end changes."""
    for table, (names, data) in chunks.items():
        cursor.copy_expert(f"COPY bare.{table} ({names}) FROM STDIN BINARY", io.BytesIO(data))
    cursor.execute("""INSERT INTO bare.resource SELECT * FROM cheops.resource WHERE id IN
        (SELECT resource FROM bare.operation WHERE id = ANY (%s::uuid[]))
        ON CONFLICT (id) DO UPDATE SET vector = excluded.vector, highest_stamp_ms = excluded.highest_stamp_ms,
        highest_stamp_counter = excluded.highest_stamp_counter""", (ids,))
    for site in others:
        cursor.execute("""INSERT INTO bare.outbound (site, key, number, operation)
            SELECT %s, 'operation', %s + n, id FROM unnest(%s::uuid[]) WITH ORDINALITY t (id, n)""", (site, first, ids))
    cursor.connection.commit()
    cursor.execute("UPDATE bare.execution SET updated_ms = updated_ms + 1 WHERE operation = ANY (%s::uuid[])", (ids,))
    if len(others) > 1:  # the origin
        cursor.execute("UPDATE bare.operation SET completed_ms = completed_ms + 1 WHERE id = ANY (%s::uuid[])", (ids,))
    cursor.execute("DELETE FROM bare.outbound WHERE number <= %s", (first + len(ids),))
    cursor.connection.commit()


def fill(dsn, ids, others, barrier, seconds):
    connection = psycopg2.connect(dsn)
    cursor = connection.cursor()
    cursor.execute("DROP SCHEMA IF EXISTS bare CASCADE; CREATE SCHEMA bare")
    for table in (*BY_OPERATION, "resource", "outbound"):
        cursor.execute(f"CREATE TABLE bare.{table} (LIKE cheops.{table} INCLUDING ALL)")
    connection.commit()
    batches = [(ids[i:i + BATCH], read(cursor, ids[i:i + BATCH])) for i in range(0, len(ids), BATCH)]
    connection.commit()
    barrier.wait(120)
    start = time.monotonic()
    for number, (batch, chunks) in enumerate(batches):
        write(cursor, batch, chunks, others, number * BATCH)
    seconds.value = time.monotonic() - start
    cursor.execute("DROP SCHEMA bare CASCADE")
    connection.commit()
    connection.close()


def measure(dsns, origin, prefix, count):
    """Operations per second, of the operations of the resources whose ids begin with prefix."""
    with psycopg2.connect(dsns[origin]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id::text FROM cheops.operation WHERE resource LIKE %s ORDER BY arrival LIMIT %s",
                       (prefix + "%", count))
        ids = [row[0] for row in cursor.fetchall()]
    barrier = multiprocessing.Barrier(len(dsns))
    workers = []
    for site, dsn in dsns.items():
        seconds = multiprocessing.Value("d", 0.0)
        others = [name for name in dsns if name != origin] if site == origin else [origin]
        worker = multiprocessing.Process(target=fill, args=(dsn, ids, others, barrier, seconds))
        worker.start()
        workers.append((worker, seconds))
    for worker, _ in workers:
        worker.join(300)
        assert worker.exitcode == 0, "the bare database floor failed"
    return len(ids) / max(seconds.value for _, seconds in workers)
