"""The desk that puts questions to approvers, one after another, and keeps what was said.

Written once as a generator: it yields what is to be done in the ledger and whom to ask, and two drivers do that,
waiting or awaiting; what fails is thrown into it. What goes wrong on the way is a no: a yes that nobody can look up
later was not given.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import secrets
import threading
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.approvals.approver import UnableError
from bursar.approvals.book import Book
from bursar.approvals.function import Function, named
from bursar.approvals.inbox import Inbox
from bursar.approvals.interrupt import Interrupt, place_of
from bursar.approvals.terminal import Terminal
from bursar.approvals.watch import Watcher
from bursar.stores.owners import Owner
from bursar.tracing.failures import failures
from bursar.words.clock import CLOCK
from bursar.words.errors import BursarWarning, ConfigError
from bursar.words.money import show_usd
from bursar.words.questions import Decision, Reply, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from bursar.approvals.approver import Approver
    from bursar.approvals.rows import Row
    from bursar.tracing.ledger import Ledger
    from bursar.words.questions import Question

DEFAULT_US: Final = 120_000_000
"""How long a question waits where its gate does not say."""
MOST_AN_HOUR: Final = 20
"""Questions of one gate within an hour above which it is said that nobody reads so many."""
_PERSON: Final = b"bursar-gate"
_CANNOT_WAIT: Final = (
    "{} cannot be asked here: this thread runs an event loop, and a synchronous call cannot wait on it. What can: an "
    "async client of bursar.wrap(...), BursarMiddleware in an agent that is awaited, approver='interrupt' in a "
    "LangGraph, or the call in a thread of its own"
)


class _Put(NamedTuple):
    """Ask this approver for so long."""

    approver: Approver
    what: tuple[Row, Question, int]


class ApprovalDesk:
    """Asks, for one process; see `_ports.Asker`."""

    def __init__(self, ledger: Ledger) -> None:
        self.book = Book(ledger.database, CLOCK.wall_us)
        self._ledger, self._watcher = ledger, Watcher(ledger.path)
        self._owner: Owner | None = None
        self._lock = threading.Lock()
        self._hash: Any = None
        self._said: set[str] = set()

    def bind(self, kind: str, name: str, told: bytes) -> str:
        """A keyed hash of what a call is and says."""
        if self._hash is None:
            key = hashlib.blake2b(self._ledger.key() or secrets.token_bytes(32), digest_size=32, person=_PERSON)
            self._hash = hashlib.blake2b(digest_size=16, key=key.digest())
        found = self._hash.copy()
        for part in (kind.encode(), name.encode("utf-8", "surrogatepass"), told):
            # With its length before it: no two lists of parts read as one.
            found.update(len(part).to_bytes(8, "big") + part)
        digest: str = found.hexdigest()
        return digest

    def ask(self, question: Question, *, may_wait: bool) -> Decision:
        """Ask, and wait for the answer in this thread."""
        flow = self._kept(question, may_wait=may_wait)
        try:
            effect = next(flow)
            while True:
                try:
                    put = effect.__class__ is _Put
                    reply = effect.approver.ask(*effect.what) if put else effect()
                except BaseException as error:  # noqa: BLE001 - the flow knows what to do about it
                    effect = flow.throw(error)
                else:
                    effect = flow.send(reply)
        except StopIteration as end:
            decision: Decision = end.value
            return decision

    async def aask(self, question: Question) -> Decision:
        """Ask, and await the answer; cancelled, the question is withdrawn."""
        flow = self._kept(question, may_wait=True)
        try:
            effect = next(flow)
            while True:
                try:
                    put = effect.__class__ is _Put
                    reply = await (effect.approver.aask(*effect.what) if put else _to_its_end(effect))
                except BaseException as error:  # noqa: BLE001 - as above
                    effect = flow.throw(error)
                else:
                    effect = flow.send(reply)
        except StopIteration as end:
            decision: Decision = end.value
            return decision

    def _kept(self, question: Question, *, may_wait: bool) -> Generator[Any, Any, Decision]:
        """Ask; what cannot be kept is a no, and who goes away takes the question with him."""
        opened: list[Row] = []
        try:
            return (yield from self._flow(question, opened, may_wait=may_wait))
        except failures() as error:
            return _unkept(error)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit):
            self._withdraw(opened)
            raise

    def _withdraw(self, opened: list[Row]) -> None:
        for row in opened:
            try:
                self.book.withdraw(row.id)
            except failures():
                # It ends by itself when its time is over, and only who asked could use a yes.
                return

    def _flow(self, question: Question, opened: list[Row], *, may_wait: bool) -> Generator[Any, Any, Decision]:
        # What lasts was said of calls that could be paid.
        grant = None if question.short_nusd is not None else (yield partial(self.book.grant_for, question))
        if grant is not None:
            return Decision("approved", grant.why, grant.by_whom, "grant", grant_id=grant.id, scope=grant.scope)
        chain = question.approvers or (Step("terminal"),)
        left_us = DEFAULT_US if question.timeout_us is None else question.timeout_us
        place = self._place(question, chain)
        known: Row | None = (yield partial(self.book.at, place)) if place is not None else None
        if known is not None and known.state != "asked":
            # The node has run before: what was said then holds.
            return (yield from self._concluded(known, question, known))
        row: Row = known or (yield partial(self._open, question, chain, left_us, place, opened))
        opened[:] = [row]
        troubles: list[str] = []
        answered = False
        for step in chain:
            most_us = left_us if step.most_us is None else min(step.most_us, left_us)
            try:
                approver = self._approver(step, fresh=known is None)
                _check_wait(approver, may_wait=may_wait)
                if approver.waits or known is None:
                    lasts = approver.waits or question.timeout_us is not None
                    until_us = self.book.now_us() + most_us if lasts else None
                    yield partial(self.book.show, row.id, approver.name, until_us)
                began_us = CLOCK.monotonic_us()
                reply: Reply | None = yield _Put(approver, (row, question, most_us))
                if reply is not None:
                    yield partial(self._decide, row, reply, approver.name)
            except UnableError as error:
                troubles.append(str(error))
                continue
            answered = True
            now: Row | None = yield partial(self.book.row, row.id)
            if now is None or now.state != "asked":
                break
            left_us -= CLOCK.monotonic_us() - began_us
            if left_us <= 0:
                break
        if answered:
            ended: Row = yield partial(self.book.end, row.id)
        else:
            no = Reply(yes=False, reason="; ".join(troubles))
            ended, _ = yield partial(self.book.decide, row.id, no, by=None, via=_name(chain[-1]))
        return (yield from self._concluded(ended, question, row))

    def _decide(self, row: Row, reply: Reply, name: str) -> None:
        try:
            self.book.decide(row.id, reply, by=reply.by or name, via=name)
        except ConfigError as error:
            raise UnableError(f"the answer of {name} cannot be meant: {error}") from None

    def _concluded(self, row: Row, question: Question, opened: Row) -> Generator[Any, Any, Decision]:
        wait_us = max(0, (row.decided_us or self.book.now_us()) - opened.made_us)
        state, reason = row.state, row.reason
        taken = state == "approved" and (yield partial(self.book.use, row.id, question.binding, question.bound_nusd))
        if state in ("approved", "used") and not taken:
            state, reason = "denied", "the yes was to something else, or has been used"
        if state not in ("approved", "timeout"):
            state = "denied"
        return Decision(
            state, reason, row.by_whom, row.via, row.id, None, row.scope or "once", row.edited, wait_us, row.raise_nusd
        )  # fmt: skip

    def _place(self, question: Question, chain: tuple[Step, ...]) -> str | None:
        if not any(step.who == "interrupt" for step in chain):
            return None
        try:
            return self.bind("place", question.binding, place_of().encode("utf-8", "surrogatepass"))
        except UnableError:
            return None

    def _open(
        self, question: Question, chain: tuple[Step, ...], left_us: int, place: str | None, opened: list[Row]
    ) -> Row:
        user = None if question.user is None else self._ledger.hash_of(question.user)
        first = _name(chain[0])
        until_us = self.book.now_us() + left_us
        # A graph that was interrupted is kept, and waits in no process.
        asker = self._me() if place is None else None
        row = self.book.open(question, until_us=until_us, asking=first, user_hash=user, place=place, asker=asker)
        opened.append(row)
        if row.rules not in self._said:
            self._notice(row)
        return row

    def _me(self) -> str:
        """Who this process is to others, who can tell that it is gone."""
        with self._lock:
            if self._owner is None:
                self._owner = Owner(self._ledger.path)
            return self._owner.id

    def close(self) -> None:
        """Let go: nothing is asked any more."""
        with self._lock:
            owner, self._owner = self._owner, None
        if owner is not None:
            owner.close(empty=True)

    def _notice(self, row: Row) -> None:
        asked = self.book.asked_within_an_hour(row.rules)
        if len(asked) <= MOST_AN_HOUR:
            return
        self._said.add(row.rules)
        yes = sorted(nusd for state, nusd in asked if state in ("used", "approved") and nusd is not None)
        proposal = "answer with scope='run' or scope='tool'"
        if len(yes) * 2 > len(asked):
            # Nine tenths of what was said yes to would not be asked about.
            dollars = show_usd(yes[(len(yes) * 9 - 1) // 10]).removeprefix("$")
            proposal = f"raise it to ask_above_usd='{dollars}' (it would ask a tenth as often), or {proposal}"
        warnings.warn(
            f"{len(asked)} questions within an hour by {row.rules}, {len(yes)} of them answered yes: who is asked so "
            f"often does not read any more. To go on: {proposal}.",
            BursarWarning,
            stacklevel=2,
        )

    def _approver(self, step: Step, *, fresh: bool) -> Approver:
        if not isinstance(step.who, str):
            return Function(step.who)
        if step.who == "interrupt":
            place_of()
            return Interrupt(self.book, fresh=fresh)
        if step.who == "terminal":
            return Terminal(self.book)
        if step.who == "inbox":
            return Inbox(self._watcher)
        return named(step.who)


async def _to_its_end(work: Callable[[], Any]) -> Any:
    """Do it in a thread, which goes on when its caller is cancelled: what it has written is to be known then."""
    cut: asyncio.CancelledError | None = None
    doing = asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, work)
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError as error:
            cut = error
    if cut is None:
        return doing.result()
    doing.exception()
    raise cut


def _check_wait(approver: Approver, *, may_wait: bool) -> None:
    if approver.waits and not may_wait:
        raise UnableError(_CANNOT_WAIT.format(approver.name))


def _name(step: Step) -> str:
    return step.who if isinstance(step.who, str) else getattr(step.who, "__qualname__", "function")


def _unkept(error: BaseException) -> Decision:
    return Decision("denied", f"the question cannot be kept in the ledger ({type(error).__name__}: {error})")
