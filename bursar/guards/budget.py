"""The budget guard: how much of a limit one call may hold, and what to do when it does not fit.

Theory of operation. A call holds a bound on what it can cost: its input at most, and its output cap, which is
sent to the provider and kept by it. So whatever the answers turn out to be, settled + held <= limit. Two things
make such a hold usable:

1. A cap far above what is ever used is lowered, but only as far as the budget is contended. With L the output
   that learned calls of this kind stay under (`Demand.learned`) and f the calls that are usually open at once,
   a call takes the largest cap that leaves room for max(4, f) calls like it, between L (4 L where calls come one
   at a time) and what was asked. A sequential agent with money left is never touched.
2. What does not fit beside the holds of others waits for them; what does not fit though nobody else is in
   flight is clamped to what is left; what does not even fit at its floor is refused.

Everything here is arithmetic on the numbers given.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING

from bursar.guards.options import parse_reserve, parse_warn_at
from bursar.settings.over import parse_over
from bursar.words.errors import ConfigError
from bursar.words.events import UNITS, Amounts, filled
from bursar.words.money import MAX_AMOUNT, PICO_PER_NANO, parse_count, parse_usd
from bursar.words.seconds import parse_seconds
from bursar.words.verdicts import Decision, Deny, Grant, Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from bursar.flow.terms import BudgetNotice
    from bursar.settings.over import Over
    from bursar.words.demand import Demand
    from bursar.words.ports import Room

SHARE_MIN = 4
"""A call leaves room for this many calls like it, before it is known how many usually come at once."""
SOLO_FACTOR = 4
"""How far above the learned output the cap stays where calls come one at a time."""
PLENTY = 32
"""Where this many calls like it would fit, a call holds what bytes bound and is left as it is: nobody is in need."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A specification of limits; what is spent of it lives in the run it is given to.

    `usd` is dollars as a str, an int or a Decimal ("0.50"), never a float. `tokens` counts input, cached input
    included, plus output; `uncached_tokens` the same without cache reads; `model_calls` counts operations, not
    their retries. `seconds` is a deadline on the monotonic clock, from when the run or budget opens: a call that has
    not begun by then is refused, one in flight ends as it would have.

    `max_wait` is how many seconds a call may queue for the holds of others. `bound` chooses what a call holds for
    its input: "practical", what calls like it were seen to stay under, or "hard", what the bytes of the request
    cannot exceed.

    `over` says what happens to a call that does not fit: "deny" refuses it. "warn" lets it go with a verdict and one
    `BursarWarning`. "throttle:6/min" lets such calls go at most so often (s, min or h); each waits for its turn, a
    sync one in its thread. With the last two what is settled may pass the limit, without bound.

    `warn_at` is a share of every limit ("80%") or dollars ("0.40"). Once for each unit, when what is settled reaches
    it, `on_warn` is called with a `BudgetNotice`, in the thread or task of the call that reached it and after that
    call is charged and recorded; without `on_warn` there is a `BursarWarning`. What `on_warn` raises becomes one.

    `reserve_final` sets a part aside for one last call inside `run.final()`: dollars ("0.05", with the same share of
    every other limit and one model call), or "auto", what one call costs on the context of the call at hand. Ordinary
    calls have the rest; both together never have more than the limit.

    Raises `TypeError` for a float or another wrong type, `ConfigError` for zero, negative, NaN and limits or options
    that contradict each other, or when there is no limit at all.
    """

    usd: str | int | Decimal | None = None
    tokens: int | None = None
    uncached_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    model_calls: int | None = None
    tool_calls: int | None = None
    seconds: float | None = None
    max_wait: float = 60.0
    bound: str = "practical"
    over: str = "deny"
    warn_at: str | int | Decimal | None = None
    on_warn: Callable[[BudgetNotice], object] | None = None
    reserve_final: str | int | Decimal | None = None

    def __post_init__(self) -> None:
        limits = self.limits()
        if not limits and self.seconds is None:
            raise ConfigError("Budget() without a limit: name one, as in Budget(usd='0.50'), or Budget.unlimited()")
        total = limits.get("tokens")
        for part in ("uncached_tokens", "input_tokens", "output_tokens"):
            if total is not None and limits.get(part, 0) > total:
                raise ConfigError(f"{part}={limits[part]} can never be reached: tokens={total} counts it too")
        if isinstance(self.max_wait, bool) or not isinstance(self.max_wait, int | float):
            raise TypeError(f"max_wait={self.max_wait!r} is a number of seconds")
        if not 0 <= self.max_wait < float("inf"):
            raise ConfigError(f"max_wait={self.max_wait!r}: seconds to wait are finite and not negative")
        if self.bound not in ("practical", "hard"):
            raise ConfigError(f"bound={self.bound!r} is neither 'practical' nor 'hard'")
        self._check_options()

    def _check_options(self) -> None:
        over = self.over_limit()
        self.deadline_us(), self.marks(), self.kept()
        if over.kind != "deny":
            for name in ("seconds", "reserve_final"):
                if getattr(self, name) is not None:
                    raise ConfigError(
                        f"{name}={getattr(self, name)!r} with over={self.over!r}: a limit that refuses nothing has no "
                        "deadline and nothing set aside; give that in a second Budget(...)"
                    )
        if self.on_warn is None:
            return
        given: object = self.on_warn
        if not callable(given) or iscoroutinefunction(given):
            raise TypeError(f"on_warn={self.on_warn!r} is a plain function of one BudgetNotice")
        if self.warn_at is None:
            raise ConfigError("on_warn without warn_at is never called: name warn_at='80%'")

    @staticmethod
    def unlimited() -> Unlimited:
        """Say by name that a run has no limit."""
        return Unlimited()

    def limits(self) -> dict[str, int]:
        """The limits that are set, by unit; `usd` in nano-dollars."""
        limits = {} if self.usd is None else {"usd": parse_usd(self.usd, "usd")}
        for unit in UNITS[1:]:
            value = getattr(self, unit)
            if value is not None:
                limits[unit] = parse_count(value, unit)
        return limits

    def over_limit(self) -> Over:
        """What happens beyond a limit."""
        return parse_over(self.over)

    def deadline_us(self) -> int | None:
        """The deadline in microseconds from the opening."""
        return None if self.seconds is None else parse_seconds(self.seconds)

    def marks(self) -> dict[str, int]:
        """The amounts to speak at, by unit."""
        return {} if self.warn_at is None else parse_warn_at(self.warn_at, self.limits())

    def kept(self) -> dict[str, int] | None:
        """What ordinary calls may use of each limit, None where nothing is set aside."""
        return None if self.reserve_final is None else parse_reserve(self.reserve_final, self.limits())

    def __enter__(self) -> None:
        raise TypeError("a Budget describes a limit; to open one write: with bursar.budget(usd='0.50'): ...")

    def __exit__(self, *exc: object) -> None:
        """Only here so that `with Budget(...)` reaches the message above."""


class Unlimited:
    """The budget of a run that has none, on purpose."""


def decide(demand: Demand, rooms: Sequence[Room], crowd: int, *, hard: bool) -> Decision:
    """Say what one attempt may do now, given what each limited scope has left and how many calls come at once."""
    full = amounts(demand, demand.input_hard, demand.cap)
    if not rooms:
        return Grant(None, full, "as_asked", "hard")
    free = _least([room.free for room in rooms])
    crowd = max(crowd, *[room.crowd + 1 for room in rooms])
    if _plenty(full, free, max(crowd, PLENTY)) and not any(room.behind for room in rooms):
        # The usual case: whatever this call can cost is small beside what is left for all that may come with it.
        return Grant(None, full, "as_asked", "hard")
    cap = _share(demand, free, crowd, hard=hard)
    tight = _tight(demand)
    behind = next((room for room in rooms if room.behind), None)
    if behind is None:
        most = fit(demand, free, demand.input_hard if hard else demand.input_practical, hard=hard)
        if min(cap, most) >= tight:
            return _grant(demand, min(cap, most), free, tight, crowd, hard=hard)
    least = smallest(demand, hard=hard)
    for room in rooms:
        unit = _too_much(least, room.idle)
        if unit is not None:
            return Deny(room, UNITS[unit], least[unit], "no_room")
    wanted = amounts(demand, demand.input_hard if hard else demand.input_practical, tight, hard=hard)
    for room in rooms:
        if room.behind or (room.others and _too_much(wanted, room.free) is not None):
            return Queue(room.scope)
    return alone(demand, rooms, hard=hard)


def smallest(demand: Demand, *, hard: bool) -> Amounts:
    """Every unit that a call uses up when it is as small as is worth sending."""
    tokens = demand.input_hard if hard else demand.input_practical
    return amounts(demand, tokens, least_output(demand), hard=hard)


def decide_fixed(need: Amounts, rooms: Sequence[Room], why: str | None = None) -> Queue | Deny | None:
    """Judge a call that takes just `need`, as a tool does: None lets it go.

    It waits where only holds of others are in its way, and in line only for what it needs. `why`: it must not wait.
    """
    for room in rooms:
        unit = _too_much(need, room.idle)
        if unit is not None:
            return Deny(room, UNITS[unit], need[unit], "no_room")
    for room in rooms:
        unit = _too_much(need, room.free)
        if unit is None and not (need.nusd and room.behind):
            continue
        if why is None and (room.others or room.behind):
            return Queue(room.scope)
        if unit is not None:
            return Deny(room, UNITS[unit], need[unit], why or "would_deadlock")
    return None


def alone(demand: Demand, rooms: Sequence[Room], *, hard: bool, why: str = "no_room") -> Grant | Deny:
    """Clamp to what is left, or refuse: for a call that nobody's settling can help, or that must not wait."""
    free = _least([room.free for room in rooms])
    tokens = demand.input_hard if hard else demand.input_practical
    most = fit(demand, free, tokens, hard=hard)
    floor = least_output(demand)
    if min(most, demand.cap) >= floor:
        return _grant(demand, min(most, demand.cap), free, _tight(demand), PLENTY, hard=hard)
    least = amounts(demand, tokens, floor, hard=hard)
    for room in rooms:
        unit = _too_much(least, room.free)
        if unit is not None:
            if room.others == 0 and _too_much(least, room.idle) is None:
                why = "would_deadlock"
            return Deny(room, UNITS[unit], least[unit], why)
    raise AssertionError("a call that fits every scope was not granted")


def amounts(demand: Demand, input_tokens: int, cap: int, *, hard: bool = True) -> Amounts:
    """Every unit that a call with this input and this output cap can use up."""
    *_, choices, _, calls, price = demand
    output = cap * choices
    total, nusd = input_tokens + output, 0
    if price is not None:
        nusd = price[hard].bound(input_tokens, output)
    if total > MAX_AMOUNT or nusd > MAX_AMOUNT:
        total, nusd = min(MAX_AMOUNT, total), min(MAX_AMOUNT, nusd)
    return filled(Amounts, (nusd, total, total, input_tokens, output, calls, 0))


def fit(demand: Demand, free: Amounts, input_tokens: int, *, hard: bool) -> int:
    """Find the largest output cap whose call fits `free`; -1 where even an empty answer does not."""
    if _too_much(amounts(demand, input_tokens, 0, hard=hard), free) is not None:
        return -1
    most = min(free.tokens - input_tokens, free.uncached_tokens - input_tokens, free.output_tokens)
    if demand.price is not None:
        rate = demand.price[hard]
        left_pico = (free.nusd - rate.fixed_nusd) * PICO_PER_NANO - input_tokens * rate.input_pico
        if rate.output_pico:
            most = min(most, left_pico // rate.output_pico)
    return most // demand.choices


def _share(demand: Demand, free: Amounts, crowd: int, *, hard: bool) -> int:
    if demand.learned is None or not demand.clampable:
        return demand.cap
    parts = max(SHARE_MIN, crowd)
    low = demand.learned if crowd > 1 else SOLO_FACTOR * demand.learned
    share = Amounts(*(part // parts for part in free))
    tokens = demand.input_hard if hard else demand.input_practical
    return min(demand.cap, max(low, demand.least, fit(demand, share, tokens, hard=hard)))


def _grant(demand: Demand, cap: int, free: Amounts, tight: int, crowd: int, *, hard: bool) -> Grant:
    # The hard bound costs nothing where it leaves most of the room: it is taken whenever it is small beside it.
    full = amounts(demand, demand.input_hard, cap)
    generous = not hard and _plenty(full, free, max(crowd, PLENTY))
    if hard or generous:
        held, bound = full, "hard"
    else:
        held, bound = amounts(demand, demand.input_practical, cap, hard=False), "practical"
    if cap >= demand.cap:
        return Grant(None, held, "as_asked", bound)
    return Grant(cap, held, "lowered" if cap >= tight else "clamped", bound)


def _tight(demand: Demand) -> int:
    if demand.learned is None or not demand.clampable:
        return demand.cap
    return min(demand.cap, max(demand.learned, demand.least))


def least_output(demand: Demand) -> int:
    """The smallest output cap that is worth sending for this call."""
    return min(demand.cap, demand.floor) if demand.clampable else demand.cap


def _too_much(need: Amounts, have: Amounts) -> int | None:
    for i, (wanted, left) in enumerate(zip(need, have, strict=True)):
        if wanted > left:
            return i
    return None


def _plenty(need: Amounts, have: Amounts, times: int) -> bool:
    return all(wanted * times <= left for wanted, left in zip(need, have, strict=True))


def _least(rooms: Sequence[Amounts]) -> Amounts:
    return rooms[0] if len(rooms) == 1 else Amounts(*map(min, zip(*rooms, strict=True)))
