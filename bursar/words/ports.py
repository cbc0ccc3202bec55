"""What the flow asks of the world: the protocols of its neighbours and the effects it yields.

The flow is a generator. It yields one of the effects below; a driver (`runs/drive.py`) performs it and sends the
answer back. Nothing in this file does anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from bursar.words.events import NOTHING, Amounts
from bursar.words.money import MAX_AMOUNT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from bursar.words.questions import Decision, Question
    from bursar.words.records import Record


SHARED: Final = "shared"
"""Stands for the window of a run that several processes have open: no time limits it."""


class Scope(NamedTuple):
    """A node of the budget tree."""

    kind: str
    name: str
    window: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" {self.window}" if self.window else "")


UNLIMITED = Amounts(*(MAX_AMOUNT,) * len(NOTHING))


class Room(NamedTuple):
    """What one limited scope still has. `UNLIMITED` stands in the units without a limit.

    free: limit - settled - held. idle: limit - settled, what would be free were every hold released. others:
    calls in flight for which waiting can help: not those of the asking task and of the tasks that it came from, nor
    of a task that is waiting itself. crowd: calls in flight and in the queue. behind: somebody else is first in line.
    limits: by unit, as they are now.
    """

    scope: Scope
    free: Amounts
    idle: Amounts
    others: int
    crowd: int
    behind: bool
    limits: Mapping[str, int]


class Held(NamedTuple):
    """Amounts reserved for one attempt over a path, all or none. crowd: what `Take` says of the calls there, else 0."""

    call_id: str
    path: tuple[Scope, ...]
    amounts: Amounts
    crowd: int = 0


class Denied(NamedTuple):
    """The first limit on the path that had no room. Nothing was changed."""

    scope: Scope
    unit: str
    limit: int
    settled: int
    held: int
    needed: int


class Balance(NamedTuple):
    """The state of one scope. `limits` names only the units that have one."""

    limits: Mapping[str, int]
    settled: Amounts
    held: Amounts
    unmeasured: Amounts
    holds: int


class Busy(Exception):
    """Another process has the store just now, and the caller would not wait."""


class Posting(NamedTuple):
    """What an attempt cost, for limits that several processes share: it is charged with the attempt's row."""

    call_id: str
    path: tuple[Scope, ...]
    actual: Amounts
    measured: bool


class Ticket(Protocol):
    """A place in the queue of a scope. The store calls `wake` when its turn may have come."""

    def wake(self) -> None:
        """Look again."""


class Store(Protocol):
    """Holds over scopes. Each verb is keyed by call id and idempotent; a refusal changes nothing.

    Errors, all before any effect: `UnknownScope`, `InvalidAmount`, `Conflict` (the same id, other amounts).
    """

    def define(self, scope: Scope, limits: Mapping[str, int]) -> None:
        """Create the scope, or change its limits; what was settled and is held stays."""

    def reserve(self, call_id: str, path: tuple[Scope, ...], amounts: Amounts, owner: int) -> Held | Denied:
        """Hold `amounts` on every scope of the path, or on none."""

    def take(self, call_id: str, path: tuple[Scope, ...], amounts: Amounts, times: int, owner: int) -> Held | None:
        """Hold `amounts` where nobody waits and every limit has room for `times` of them; None changes nothing."""

    def settle(self, call_id: str, path: tuple[Scope, ...], actual: Amounts, *, measured: bool) -> object:
        """Charge `actual` in place of the hold; never refused, not even above the limit."""

    def release(self, call_id: str) -> object:
        """Free a hold whose call never left. Raises `AlreadyCommitted` after a charge."""

    def turn(self, scope: Scope, interval_us: int, now_us: int) -> int:
        """Take the turn (0), or say in how many microseconds to ask again."""

    def sent(self, call_id: str) -> None:
        """Note that a call with a hold on a shared scope is about to leave."""

    def posted(self, call_id: str, path: tuple[Scope, ...]) -> None:
        """Note that what a call cost is charged to the shared scopes of its path."""

    def peek(self, path: tuple[Scope, ...], line: frozenset[int], ticket: Ticket | None) -> tuple[Room, ...]:
        """What each limited scope of the path has left now, for a call of this line of owners and this ticket."""

    def balance(self, scope: Scope) -> Balance:
        """The state of one scope."""

    def join(self, scope: Scope, ticket: Ticket, owner: int) -> None:
        """Queue the ticket on the scope, behind who came before; nobody waits for one who waits himself."""

    def leave(self, ticket: Ticket) -> None:
        """Take the ticket out of its queue and wake the next one."""


class Sink(Protocol):
    """Where records go."""

    def write(self, record: Record, posting: Posting | None = None) -> None:
        """Keep the record, and charge the posting with it or not at all.

        When this returns, the death of the process does not lose them. Never raises.
        """

    def try_write(self, record: Record, posting: Posting | None = None) -> bool:
        """As `write`, but give up at once (False) when another process has the file."""


class Clock(Protocol):
    """Two clocks and a calendar: see `words/clock.py`."""

    def today(self) -> date:
        """The day that prices go by, in UTC."""

    def wall_us(self) -> int:
        """Microseconds since the epoch."""

    def monotonic_us(self) -> int:
        """Microseconds on a clock that is never set."""


class Asker(Protocol):
    """Puts questions to whoever is to answer them, and keeps both. A yes that cannot be kept is a no."""

    def bind(self, kind: str, name: str, told: bytes) -> str:
        """A keyed hash of what a call is and says: a yes is bound to it."""

    def ask(self, question: Question, *, may_wait: bool) -> Decision:
        """Ask, and wait for the answer in this thread; where it may not wait, that is a no which says so."""

    async def aask(self, question: Question) -> Decision:
        """Ask, and await the answer; cancelled, the question is withdrawn."""


class Purse(Protocol):
    """A budget of this process, whose limit in dollars can be raised.

    of_file: the configuration has set it. closed: somebody was asked for more and said no, which holds while it lives.
    """

    of_file: bool
    closed: bool

    @property
    def scope(self) -> Scope:
        """Which one it is."""

    def covers(self, scope: Scope) -> bool:
        """Whether a limit on this scope is one of its own."""

    def lift(self, nusd: int) -> int:
        """Raise the limit by so much, in the store too; the new one."""


class Peek(NamedTuple):
    """Ask for the `Room` of each limited scope of a path."""

    path: tuple[Scope, ...]
    ticket: Ticket | None


class Reserve(NamedTuple):
    """Ask the store for a hold. Answer: `Held` or `Denied`."""

    call_id: str
    path: tuple[Scope, ...]
    amounts: Amounts


class Take(NamedTuple):
    """Ask the store for a hold where there is plenty: nobody in line, and room for `times` of `amounts` at least.

    Answer: `Held`, with the calls in flight there as `crowd`, this one included; or None: look first.
    """

    call_id: str
    path: tuple[Scope, ...]
    amounts: Amounts
    times: int


class Join(NamedTuple):
    """Queue on a scope. Answer: a `Ticket`, or None where this caller must not wait."""

    scope: Scope


class Wait(NamedTuple):
    """Sleep until the ticket is woken or `seconds` have passed."""

    ticket: Ticket
    seconds: float


class Count(NamedTuple):
    """Ask the provider's free counting endpoint. Answer: input tokens, or None where there is none."""


class Look(NamedTuple):
    """Ask for the `Balance` of one scope."""

    scope: Scope


class Limit(NamedTuple):
    """Change the limits of a scope; what was settled and is held stays."""

    scope: Scope
    limits: Mapping[str, int]


class Turn(NamedTuple):
    """Take the next turn where calls go `interval_us` apart. Answer: 0, or microseconds until one may ask again."""

    scope: Scope
    interval_us: int
    now_us: int


class Sleep(NamedTuple):
    """Let `seconds` pass."""

    seconds: float


class Settle(NamedTuple):
    """Charge an attempt."""

    call_id: str
    path: tuple[Scope, ...]
    actual: Amounts
    measured: bool


class Release(NamedTuple):
    """Free the hold of an attempt that never left."""

    call_id: str


class Sent(NamedTuple):
    """Note that an attempt with a hold on a shared scope is about to leave."""

    call_id: str


class Posted(NamedTuple):
    """Note that an attempt's posting is written."""

    call_id: str
    path: tuple[Scope, ...]


class Write(NamedTuple):
    """Commit a record before going on, and with it a charge to shared limits."""

    record: Record
    posting: Posting | None = None


class Ask(NamedTuple):
    """Put a question. Answer: a `Decision`."""

    question: Question
    asker: Asker


class Raise(NamedTuple):
    """Raise a budget's limit in dollars. Answer: the new limit."""

    purse: Purse
    nusd: int


Effect = (
    Ask
    | Raise
    | Peek
    | Look
    | Limit
    | Turn
    | Take
    | Reserve
    | Join
    | Wait
    | Sleep
    | Count
    | Sent
    | Settle
    | Release
    | Write
    | Posted
)
