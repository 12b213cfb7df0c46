"""The database of a chain: blocks, receipts, an index of transactions, trie nodes, code and the heads, in
SQLite.

One block is one transaction of the database, so a process that dies at any moment leaves the chain as it
was after some block. Adding a block deletes nothing, which makes a reorganisation a change of the `canonical`
table and nothing else; what only old states need goes later, if at all (`chain.pruning`).

A read never waits for a block being written, which takes a quarter of a second for 1,500 transfers,
and more when the disk is slow. A database in a directory has a connection for each (WAL: readers see what was
committed last); one for all threads serves the look-ups, which take microseconds.

Without a path the database is SQLite's private temporary one: a file that the system removes, so that a chain
without a directory does not grow in memory either. It has room for one connection only, so the writer lets
readers in between every few rows; rows that say that there is a block come last.
"""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import IO, Any, Final

from flashctl.errors import IoError
from flashctl.eth.blocks import Header, decode_header, encode_header
from flashctl.eth.bloom import EMPTY_BLOOM
from flashctl.eth.receipts import Receipt, decode_receipt, encode_receipt
from flashctl.eth.rlp import decode_list, encode_bytes, join_list

__all__ = [
    "DATABASE_NAME",
    "BlockRow",
    "Heads",
    "OldestState",
    "Store",
    "StoreError",
    "TransactionPlace",
]

DATABASE_NAME: Final = "chain.sqlite"

SCHEMA_VERSION: Final = 2
"""In the database's `user_version`. Layout 1, which lacks the block that wrote a node, is migrated; any
other number is refused."""

LOCK_NAME: Final = "chain.lock"
"""Locked while a process uses the directory: a second one would see heads that it did not set."""

CACHE_KIB: Final = 64 * 1024
"""Pages that SQLite keeps in memory for reads."""

WRITER_CACHE_KIB: Final = 32 * 1024

ROOM_S: Final = 0.00005
"""That pause between the rows of one millisecond and the next."""

HASHES_AT_ONCE: Final = 500
"""Of one look-up: a millisecond."""

ROWS_AT_ONCE: Final = 64
"""Rows written before a reader of the same connection gets its turn: a millisecond."""

_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    number INTEGER NOT NULL,
    header BLOB NOT NULL,
    bloom BLOB,
    transactions BLOB NOT NULL,
    senders BLOB NOT NULL,
    receipts BLOB NOT NULL
);
CREATE TABLE canonical (number INTEGER PRIMARY KEY, block INTEGER NOT NULL REFERENCES blocks (id));
CREATE TABLE transactions (
    hash BLOB NOT NULL,
    block INTEGER NOT NULL REFERENCES blocks (id),
    position INTEGER NOT NULL,
    PRIMARY KEY (hash, block)
) WITHOUT ROWID;
CREATE TABLE nodes (
    hash BLOB PRIMARY KEY,
    rlp BLOB NOT NULL,
    written INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE codes (hash BLOB PRIMARY KEY, code BLOB NOT NULL) WITHOUT ROWID;
"""

_ADDRESS_SIZE: Final = 20


class StoreError(IoError):
    """The database cannot be opened, read or written."""


@dataclass(frozen=True, slots=True)
class Heads:
    """The blocks that forkchoice named last, by hash."""

    head: bytes
    safe: bytes
    finalized: bytes


@dataclass(frozen=True, slots=True)
class BlockRow:
    """One block as it is kept."""

    header: Header
    transactions: tuple[bytes, ...]
    """Raw, EIP-2718."""
    senders: tuple[bytes, ...]
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class TransactionPlace:
    """Where the canonical chain has a transaction."""

    block_hash: bytes
    index: int


@dataclass(frozen=True, slots=True)
class OldestState:
    """The block whose state is the oldest to stay."""

    number: int
    root: bytes
    row: int
    """Of the block in the database: blocks after it have larger ones."""


class Store:
    """The database of one chain. Close it when done."""

    def __init__(self, connection: sqlite3.Connection, name: str, lock: IO[bytes] | None = None) -> None:
        self._connection = connection
        """Writes, and reads if it is the only one."""

        self._reader = connection
        self._name = name
        self._directory_lock = lock
        self._writing = RLock()
        """For a whole transaction."""

        self._lock = RLock()
        """For one look-up, or a few rows where both use one connection."""

    @classmethod
    def open(cls, directory: Path | None) -> Store:
        """The database in a directory, made if there is none; a temporary one for None.

        Raises:
            StoreError: If it cannot be opened, belongs to a running process, or has another layout.
        """
        name = str(directory / DATABASE_NAME) if directory is not None else ""
        shown = name or "temporary database"
        try:
            if directory is not None:
                _refuse_emptied(directory / DATABASE_NAME)
            lock = None if directory is None else _locked_directory(directory)
            connection = _connect(name)
        except BlockingIOError:
            raise StoreError(f"{shown}: in use by another process") from None
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{shown}: {error}") from None
        store = cls(connection, shown, lock)
        try:
            store._prepare(keep=directory is not None)
            if directory is not None:
                with store._translated():
                    store._reader = _connect(name)
                    store._reader.execute("PRAGMA query_only = 1")
                    store._reader.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        except BaseException:
            store.close()
            raise
        return store

    def _prepare(self, *, keep: bool) -> None:
        with self._translated():
            run = self._connection.execute
            run(f"PRAGMA cache_size = -{WRITER_CACHE_KIB if keep else CACHE_KIB}")
            if keep:
                run("PRAGMA journal_mode = WAL")
                # Survives the death of the process; the loss of power may cost the last blocks, never order.
                run("PRAGMA synchronous = NORMAL")
            else:
                run("PRAGMA synchronous = OFF")
            version = run("PRAGMA user_version").fetchone()[0]
            if version == SCHEMA_VERSION:
                return
            if version == 1:
                with self.transaction():
                    # Whose the nodes are is not known, so they count as those of the newest block.
                    newest = run("SELECT max(id) FROM blocks").fetchone()[0] or 0
                    run(f"ALTER TABLE nodes ADD COLUMN written INTEGER NOT NULL DEFAULT {newest}")
                    run(f"PRAGMA user_version = {SCHEMA_VERSION}")
                return
            if version != 0 or run("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise StoreError(
                    f"{self._name}: layout {version}, this version reads layout {SCHEMA_VERSION}"
                )
            with self.transaction():
                for statement in _SCHEMA.split(";\n"):
                    run(statement)
                run(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def close(self) -> None:
        """Give the database back; using the store afterwards raises StoreError."""
        with self._writing, self._lock:
            self._reader.close()
            self._connection.close()
            if self._directory_lock is not None:
                self._directory_lock.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything written inside becomes durable together, or not at all; others than the caller see
        it afterwards.

        Raises:
            StoreError: If writing fails; then nothing was written.
        """
        with self._writing, self._translated():
            self._run("BEGIN IMMEDIATE")
            try:
                yield
                self._run("COMMIT")
            except BaseException:
                # A full disk makes SQLite roll back by itself; doing it again would hide the reason.
                if self._connection.in_transaction:
                    self._run("ROLLBACK")
                raise

    def _run(self, statement: str, parameters: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """One statement of a writer."""
        if self._reader is not self._connection:
            return self._connection.execute(statement, parameters)
        with self._lock:
            return self._connection.execute(statement, parameters)

    def _run_many(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """One statement for many rows, yielding to readers in between."""
        rows = iter(rows)
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            if self._reader is not self._connection:
                self._connection.executemany(statement, chunk)
                continue
            with self._lock:
                self._connection.executemany(statement, chunk)
            # Locks are not fair: without a pause it would be taken again before another thread wakes.
            time.sleep(ROOM_S)

    # ---- writing, inside a transaction ----------------------------------------------------------

    def row_for(self, block_hash: bytes) -> int:
        """The row that a block has, or will have if it is the next to be added."""
        found = self._run(
            "SELECT coalesce((SELECT id FROM blocks WHERE hash = ?),"
            " (SELECT coalesce(max(id), 0) + 1 FROM blocks))",
            (block_hash,),
        )
        block: int = found.fetchone()[0]
        return block

    def add_block(self, block: int, row: BlockRow, hashes: Iterable[bytes]) -> None:
        """Keep a block; one that is there already stays. Its state comes before it.

        Args:
            block: Its row, from `row_for`.
            hashes: Of its transactions, in order.
        """
        header = row.header
        self._run_many(
            "INSERT OR IGNORE INTO transactions VALUES (?, ?, ?)",
            ((tx_hash, block, position) for position, tx_hash in enumerate(hashes)),
        )
        self._run(
            "INSERT OR IGNORE INTO blocks (id, hash, number, header, bloom, transactions, senders, receipts)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                block,
                header.hash,
                header.number,
                encode_header(header),
                None if header.logs_bloom == EMPTY_BLOOM else header.logs_bloom,
                join_list(encode_bytes(raw) for raw in row.transactions),
                b"".join(row.senders),
                join_list(encode_bytes(encode_receipt(receipt)) for receipt in row.receipts),
            ),
        )

    def add_state(
        self, block: int, nodes: Iterable[tuple[bytes, bytes]], codes: Iterable[tuple[bytes, bytes]]
    ) -> None:
        """Keep trie nodes and code by their hashes. A node that is there already now belongs to this block
        too: `sweep_nodes` must not take it for one that only older blocks need. It never goes back to an
        older block, which one that is imported once more would be."""
        self._run_many(
            f"INSERT INTO nodes VALUES (?, ?, {block})"
            " ON CONFLICT (hash) DO UPDATE SET written = max(written, excluded.written)",
            nodes,
        )
        self._run_many("INSERT OR IGNORE INTO codes VALUES (?, ?)", codes)

    def sweep_nodes(
        self, after: bytes, block: int, is_needed: Callable[[bytes], bool], count: int
    ) -> tuple[bytes | None, int]:
        """Look at the next `count` nodes by hash: delete those written up to a block and referred to by no
        state that is kept.

        In a transaction of its own.

        Returns:
            The hash to go on after, None at the end, and how many nodes were deleted.
        """
        with self.transaction():
            rows = self._run(
                "SELECT hash, written FROM nodes WHERE hash > ? ORDER BY hash LIMIT ?", (after, count)
            ).fetchall()
            unneeded = [
                (node_hash,) for node_hash, written in rows if written <= block and not is_needed(node_hash)
            ]
            self._run_many("DELETE FROM nodes WHERE hash = ?", unneeded)
        return (rows[-1][0] if len(rows) == count else None), len(unneeded)

    def set_canonical(self, removed_from: int | None, added: Iterable[bytes]) -> None:
        """Change which block of a number is canonical.

        Args:
            removed_from: The numbers from this one on lose their block first.
            added: Hashes of kept blocks that become canonical at their numbers.
        """
        if removed_from is not None:
            self._run("DELETE FROM canonical WHERE number >= ?", (removed_from,))
        self._run_many(
            "INSERT OR REPLACE INTO canonical SELECT number, id FROM blocks WHERE hash = ?",
            ((block_hash,) for block_hash in added),
        )

    def set_heads(self, heads: Heads) -> None:
        """Keep the heads."""
        self.set_meta("heads", heads.head + heads.safe + heads.finalized)

    def set_meta(self, key: str, value: bytes) -> None:
        """Keep one value under a name."""
        self._run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    # ---- reading --------------------------------------------------------------------------------

    def meta(self, key: str) -> bytes | None:
        """The value under a name."""
        row = self._one("SELECT value FROM meta WHERE key = ?", key)
        return None if row is None else row[0]

    def heads(self) -> Heads | None:
        """The heads; None in a new database."""
        value = self.meta("heads")
        return None if value is None else Heads(value[:32], value[32:64], value[64:96])

    def row_of(self, block_hash: bytes) -> int | None:
        """The row of a kept block."""
        row = self._one("SELECT id FROM blocks WHERE hash = ?", block_hash)
        return None if row is None else row[0]

    def header(self, block_hash: bytes) -> Header | None:
        """The header of a kept block."""
        row = self._one("SELECT header FROM blocks WHERE hash = ?", block_hash)
        return None if row is None else decode_header(row[0])

    def block(self, block_hash: bytes) -> BlockRow | None:
        """A kept block with everything of it."""
        row = self._one(
            "SELECT header, transactions, senders, receipts FROM blocks WHERE hash = ?", block_hash
        )
        if row is None:
            return None
        header, transactions, senders, receipts = row
        return BlockRow(
            decode_header(header),
            _byte_strings(transactions),
            tuple(senders[start : start + _ADDRESS_SIZE] for start in range(0, len(senders), _ADDRESS_SIZE)),
            tuple(decode_receipt(raw) for raw in _byte_strings(receipts)),
        )

    def canonical_hash(self, number: int) -> bytes | None:
        """The hash of the canonical block with a number."""
        row = self._one(
            "SELECT b.hash FROM canonical c JOIN blocks b ON b.id = c.block WHERE c.number = ?", number
        )
        return None if row is None else row[0]

    def canonical_hashes(self, first: int, last: int) -> list[bytes]:
        """The hashes of the canonical blocks in a range, by number; some at a time, so that writers do not
        wait."""
        hashes: list[bytes] = []
        for start in range(first, last + 1, HASHES_AT_ONCE):
            rows = self._all(
                "SELECT b.hash FROM canonical c JOIN blocks b ON b.id = c.block"
                " WHERE c.number BETWEEN ? AND ? ORDER BY c.number",
                start,
                min(last, start + HASHES_AT_ONCE - 1),
            )
            hashes += [row[0] for row in rows]
        return hashes

    def blooms(self, first: int, last: int) -> list[tuple[bytes, bytes]]:
        """(hash, logs bloom) of the canonical blocks in a range that have any logs, by number."""
        return self._all(
            "SELECT b.hash, b.bloom FROM canonical c JOIN blocks b ON b.id = c.block"
            " WHERE c.number BETWEEN ? AND ? AND b.bloom IS NOT NULL ORDER BY c.number",
            first,
            last,
        )

    def transaction_place(self, tx_hash: bytes) -> TransactionPlace | None:
        """Where the canonical chain has a transaction."""
        row = self._one(
            "SELECT b.hash, t.position FROM transactions t JOIN blocks b ON b.id = t.block"
            " JOIN canonical c ON c.block = b.id WHERE t.hash = ?",
            tx_hash,
        )
        return None if row is None else TransactionPlace(*row)

    def node(self, node_hash: bytes) -> bytes | None:
        """A trie node."""
        row = self._one("SELECT rlp FROM nodes WHERE hash = ?", node_hash)
        return None if row is None else row[0]

    def code(self, code_hash: bytes) -> bytes | None:
        """Code of a contract."""
        row = self._one("SELECT code FROM codes WHERE hash = ?", code_hash)
        return None if row is None else row[0]

    def _one(self, query: str, *parameters: Any) -> Any:
        with self._lock, self._translated():
            return self._reader.execute(query, parameters).fetchone()

    def _all(self, query: str, *parameters: Any) -> list[Any]:
        with self._lock, self._translated():
            return self._reader.execute(query, parameters).fetchall()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """SQLite's errors in one line that names the file."""
        try:
            yield
        except sqlite3.Error as error:
            reason = "in use by another process" if "locked" in str(error) else str(error)
            raise StoreError(f"{self._name}: {reason}") from None


def _refuse_emptied(path: Path) -> None:
    """A database in use is never empty, nor is it missing beside its log: something took the chain away, and
    to begin a new one in its place would look like success.

    Raises:
        StoreError: If that is what the directory shows.
    """
    is_emptied = path.exists() and path.stat().st_size == 0
    log = path.with_name(path.name + "-wal")
    is_lost = not path.exists() and log.exists() and log.stat().st_size > 0
    if is_emptied or is_lost:
        raise StoreError(
            f"{path}: {'empty' if is_emptied else 'gone, its log is not'}: the chain that was here is lost",
            hint="restore it from a copy, or remove the data directory to begin a new chain",
        )


def _connect(name: str) -> sqlite3.Connection:
    return sqlite3.connect(name, timeout=0, isolation_level=None, check_same_thread=False)


def _locked_directory(directory: Path) -> IO[bytes]:
    """The lock of a directory, held until it is closed or the process ends.

    Raises:
        BlockingIOError: Another process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = (directory / LOCK_NAME).open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        lock.close()
        raise
    return lock


def _byte_strings(encoded: bytes) -> tuple[bytes, ...]:
    return tuple(item for item in decode_list(encoded) if isinstance(item, bytes))
