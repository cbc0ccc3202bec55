"""Write records into the ledger file, so that they are safe before the caller goes on.

The usual record is a line in the intake file of the process, which the next transaction puts into its table; any other
is committed at once, with what waits. A record that cannot be written goes to a spool file beside the ledger and is
taken back at the next start or success; writing a record never raises into a call.
"""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bursar.db import Database, open_ledger
from bursar.intake import MANY, Intake
from bursar.leftovers import gather
from bursar.tracing.failures import apsw_error, busy, failures, unfit
from bursar.tracing.inserts import Inserts
from bursar.tracing.spool import Spool, from_spool, spooled
from bursar.tracing.users import load_user_keys
from bursar.tracing.values import clean
from bursar.words.errors import BursarWarning, StoreError
from bursar.words.records import ModelCall, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bursar.db import Run
    from bursar.words.ports import Posting
    from bursar.words.records import Record

T = TypeVar("T")


class Ledger:
    """The writer of one ledger file. The file is opened at the first write; safe for threads.

    What is `durable` has reached the disk when `write` returns.
    """

    def __init__(
        self, path: Path, post: Callable[[Run, Posting], object] | None = None, *, durable: bool = False
    ) -> None:
        self.path, self._durable = Path(path), durable
        self._post = post
        self._spool = Spool(self.path)
        self._lock = threading.Lock()
        self._database: Database | None = None
        self._intake: Intake | None = None
        self._inserts = Inserts()
        self._kept_aside = False
        self._warned = False

    def write(self, record: Record, posting: Posting | None = None) -> None:
        """Keep a record for good, and with it what it means for shared limits.

        Never raises: what cannot be written is spooled, and a warning says so once.
        """
        self._write(record, posting, wait=True)

    def try_write(self, record: Record, posting: Posting | None = None) -> bool:
        """As `write`, unless another process has the file just now: False then, and nothing was written."""
        return self._write(record, posting, wait=False)

    def user_hashes(self, user: str) -> tuple[str, ...]:
        """The keyed hashes that a user is known as, first the one that he is kept as. `LedgerError`, `ConfigError`."""
        self._open()
        return self._inserts.hashes_of(user)

    def key(self) -> bytes | None:
        """The newest key of this ledger's hashes; None where it cannot be had."""
        with contextlib.suppress(*failures()):
            self._open()
        return None if self._inserts.keys is None else self._inserts.keys.newest

    def save_calibration(self, items: Mapping[str, bytes]) -> None:
        """Keep what was learned, by key."""
        if not items:
            return
        now_us = time.time_ns() // 1_000
        try:
            database = self._open()
            for key, value in items.items():
                database.execute(
                    "INSERT OR REPLACE INTO calibration VALUES (?, ?, ?)", (clean(key, 600), value.decode(), now_us)
                )
        except failures() as error:
            self._say(f"what was learned could not be kept ({error})")

    def load_calibration(self) -> dict[str, bytes]:
        """Take back what was learned; nothing where there is no ledger yet, or none that can be read."""
        if not self.path.exists():
            return {}
        try:
            return {key: value.encode() for key, value in self._open().execute("SELECT key, value FROM calibration")}
        except failures() as error:
            self._say(f"what was learned could not be read ({error})")
            return {}

    def hash_of(self, user: str | None) -> str | None:
        """The keyed hash that stands for a user; None where there is no key (the ledger cannot be written)."""
        return self._inserts.hash_of(user)

    def database(self) -> Database:
        """The open file, with all that this process has written. Raises `LedgerError`, `ConfigError`, apsw's errors."""
        self.deliver()
        return self._open()

    def opened(self) -> Database:
        """The open file, to write to: what this process has on the way goes with the transaction. As `database`."""
        return self._database or self._open()

    def deliver(self) -> None:
        """Put what this process has on the way into the table, if it can be done now."""
        intake = self._intake
        if intake is not None and intake.waiting():
            self._deliver(wait=True)

    def gather(self) -> None:
        """As `deliver`, with what other processes have on the way."""
        with contextlib.suppress(*failures()):
            gather(self._open())

    def transact(self, work: Callable[[Run], T]) -> T:
        """Do several things in one commit, or none of them. Raises `LedgerError`, `ConfigError`, apsw's errors."""
        return self._open().transact(work)

    def insert(self, run: Run, call: ModelCall) -> None:
        """Add the row of an attempt within a transaction; one that is there already stays."""
        self._inserts.put(run, call)

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        self.deliver()
        with self._lock:
            database, self._database = self._database, None
            intake, self._intake = self._intake, None
        if intake is not None:
            intake.end()
        if database is not None:
            database.close()

    def _write(self, record: Record, posting: Posting | None, *, wait: bool) -> bool:
        if posting is None and record.__class__ is ModelCall and self._take_in(record, wait=wait):
            return True
        try:
            database = self._database or self._open()
            self._commit(database, record, posting, wait=wait)
            if database.displaced():
                # The file was moved, deleted or replaced: the row is where nobody looks. The same id makes it one row.
                self._leave(database)
                database = self._open()
                self._commit(database, record, posting, wait=wait)
        except busy():
            if not wait:
                return False
            self._keep_aside(record, posting, "another process holds it")
        except failures() as error:
            self._keep_aside(record, posting, str(error))
            current = self._database
            if current is not None and current.displaced():
                self._leave(current)
        else:
            self._succeeded(database, wait=wait)
        return True

    def _take_in(self, call: ModelCall, *, wait: bool) -> bool:
        """Whether a call is safe in the intake: nearly every one is."""
        intake = self._intake
        if intake is None or self._kept_aside:
            # A commit brings back what was kept aside.
            return False
        row = self._inserts.row(call)
        if row is None or not intake.add(row, call):
            return False
        if not intake.waiting() % MANY:
            self._deliver(wait=wait)
        return True

    def _deliver(self, *, wait: bool) -> None:
        database = self._database
        if database is None:
            return
        try:
            database.transact(_nothing_more, wait=wait)
        except busy():
            # It is safe where it is, and comes with the next transaction.
            return
        except failures() as error:
            self._say(f"records wait beside it until it can ({error})")
        else:
            self._succeeded(database, wait=wait)
        if database.displaced():
            self._leave(database)

    def _commit(self, database: Database, record: Record, posting: Posting | None, *, wait: bool) -> None:
        database.transact(lambda run: self._insert(run, record, posting), wait=wait)

    def _succeeded(self, database: Database, *, wait: bool) -> None:
        if self._kept_aside:
            self._kept_aside = False
            if wait:
                self._take_back(database)
            else:
                # Whoever does not wait is an event loop.
                threading.Thread(target=self._take_back, args=(database,), daemon=True).start()

    def _insert(self, run: Run, record: Record, posting: Posting | None) -> None:
        self._inserts.put(run, record)
        if posting is not None and self._post is not None:
            try:
                self._post(run, posting)
            except StoreError as error:
                self._say(f"what call {posting.call_id} cost was not posted to shared limits ({error})")

    def _leave(self, database: Database) -> None:
        # What was on the way into the file that is gone is written anew, into the one that takes its place.
        with self._lock:
            if self._database is not database:
                return
            intake, self._database, self._intake = self._intake, None, None
        with contextlib.suppress(*failures()):
            database.close()
        if intake is not None:
            for record in intake.sources():
                self._write(record, None, wait=True)
            intake.drop()
            intake.end()

    def _open(self) -> Database:
        database = self._database
        if database is not None:
            return database
        with self._lock:
            if self._database is None:
                opened = open_ledger(self.path, durable=self._durable)
                try:
                    self._inserts.keys = load_user_keys(self.path)
                except BaseException:
                    opened.close()
                    raise
                # Another file may lie here by now: the numbers of the last one's rows are not this one's.
                self._inserts.forget_numbers()
                intake = Intake(opened, self.deliver)
                opened.watcher = _Transactions(intake, self._inserts)
                self._take_back(opened, locked=True)
                self._database, self._intake = opened, None if self._durable else intake
            return self._database

    def _keep_aside(self, record: Record, posting: Posting | None, why: str) -> None:
        # Never the user himself: where there is no key yet, nobody.
        user = None if isinstance(record, Verdict) else self._inserts.hash_of(record.who.user)
        kept = self._spool.append(spooled(record, posting, user))
        if kept is None:
            self._say(f"and neither can a spool file beside it or in the temporary directory: records are lost ({why})")
        else:
            self._kept_aside = True
            self._say(f"records go to {kept} until it can ({why})")

    def _take_back(self, database: Database, *, locked: bool = False) -> None:
        def insert(line: bytes) -> None:
            if not line.strip():
                return
            try:
                record, posting = from_spool(line)
                database.transact(lambda run: self._insert(run, record, posting))
            except unfit():
                # Torn by the death of its writer, or no record of ours: for a person to look at.
                self._spool.reject(line)

        # What goes wrong here is left for the next start: it is no reason not to write what comes now.
        with contextlib.nullcontext() if locked else self._lock:
            self._spool.take(insert, apsw_error())

    def _say(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            # Where warnings are errors the record is safe all the same, and a paid answer is not thrown away for it.
            with contextlib.suppress(BursarWarning):
                warnings.warn(f"the ledger {self.path} cannot be written: {what}", BursarWarning, stacklevel=2)


class _Transactions:
    """What goes with every transaction of a ledger: the rows that wait, and what counts once it is committed."""

    def __init__(self, intake: Intake, inserts: Inserts) -> None:
        self._intake, self._inserts = intake, inserts

    def begun(self, run: Run) -> None:
        self._intake.put(run)

    def done(self, *, moved: bool) -> None:
        self._inserts.done()
        if moved:
            self._intake.undone()
        else:
            self._intake.done()

    def undone(self) -> None:
        self._intake.undone()
        self._inserts.forget_numbers()


def _nothing_more(_: Run) -> None:
    """For a transaction that is there for what waits."""
