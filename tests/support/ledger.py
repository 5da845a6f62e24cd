# SPDX-License-Identifier: GPL-3.0-or-later
"""A client that counts, and writes down what its database has acknowledged. Runs in guests.

`ledger.py postgres|sqlite ACKS` commits 1, 2, 3, … and appends each to the file ACKS (on a tmpfs)
once the database says that it is committed; until /run/ledger.stop is there. The standard library
and psql alone.
"""

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

STOP = Path("/run/ledger.stop")
DATA = Path("/srv/ledger.db")
TABLE = "create table if not exists ledger (n integer primary key, filler text)"


@contextlib.contextmanager
def sqlite() -> Iterator[Callable[[int], int]]:
    with contextlib.closing(sqlite3.connect(DATA, timeout=300)) as data:
        data.execute("pragma journal_mode=wal")
        data.execute("pragma synchronous=full")
        data.execute(TABLE)
        data.commit()

        def commit(number: int) -> int:
            with data:
                data.execute("insert into ledger values (?, ?)", (number, "x" * (number % 3000)))
            return number

        yield commit


@contextlib.contextmanager
def postgres() -> Iterator[Callable[[int], int]]:
    argv = ["runuser", "-u", "postgres", "--", "psql", "-qAtX", "-v", "ON_ERROR_STOP=1"]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd="/"
    ) as psql:
        assert psql.stdin is not None
        assert psql.stdout is not None
        to, back = psql.stdin, psql.stdout
        to.write(f"{TABLE};\n")

        def commit(number: int) -> int:
            filler = f"repeat('x', {number % 3000})"
            to.write(f"insert into ledger values ({number}, {filler}) returning n;\n")
            return int(back.readline())

        yield commit
        to.close()


def main() -> int:
    database = {"sqlite": sqlite, "postgres": postgres}[sys.argv[1]]
    with database() as commit, open(sys.argv[2], "w", buffering=1, encoding="ascii") as acks:
        number = 0
        while not STOP.exists():
            number += 1
            assert commit(number) == number
            acks.write(f"{number}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
