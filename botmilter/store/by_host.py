"""Rows in the order of the hosts they are about, of any number of rows.

No store has that order at hand, and Redis has none.  So they are sorted by SQLite, in a nameless
file of its own that is gone with the connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import groupby

from botmilter.model import IPAddress
from botmilter.net import parse_ip
from botmilter.store import stored
from botmilter.store.base import Row

_SCHEMA = """
CREATE TABLE rows (
    version INTEGER, ip BLOB, probe TEXT, key TEXT, expires_at REAL, observation TEXT,
    PRIMARY KEY (version, ip, probe, key)
) WITHOUT ROWID
"""


def by_host(rows: Iterable[Row]) -> Iterator[tuple[IPAddress, tuple[Row, ...]]]:
    """Each host with its rows, a row once; IPv4 first.  Raises what *rows* raises."""
    with closing(sqlite3.connect("", isolation_level=None)) as db:
        db.execute(_SCHEMA)
        db.execute("BEGIN")
        db.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?)", _values(rows))
        found = db.execute(
            "SELECT key, probe, expires_at, observation FROM rows ORDER BY version, ip, probe, key"
        )
        for address, group in groupby(found, lambda row: row[0].partition(" ")[0]):
            ip = parse_ip(address)
            read = (stored.row(probe, key, until, text) for key, probe, until, text in group)
            if ip is not None:
                yield ip, tuple(row for row in read if row is not None)


def _values(rows: Iterable[Row]) -> Iterator[tuple[int, bytes, str, str, float, str]]:
    for row in rows:
        ip = stored.address(row.seen.key)
        if ip is not None:
            text = stored.pack(row.seen)
            yield ip.version, ip.packed, row.seen.probe, row.seen.key, row.expires_at, text
