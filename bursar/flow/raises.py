"""A budget that has no room, and an answer that raises it: whose limit that is, what is missing there, and the raise.

Raised is the innermost budget in the way: whoever set it meant just these calls, and what lies around it keeps its own
limit, which is asked about in its turn. Limits that several processes share belong to nobody's run: an answer raises
none of them, and one that the configuration has set only where a gate of the configuration asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bursar.flow.refusals import note
from bursar.guards.gate_rules import FULL
from bursar.words.events import UNITS
from bursar.words.money import show_usd
from bursar.words.ports import SHARED, Raise

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from bursar.flow.call import Call, Frame, ToolStep, World
    from bursar.guards.gate_rules import Rule
    from bursar.words.events import Amounts
    from bursar.words.ports import Effect, Purse, Room

_USD = UNITS.index("usd")


class Lack(NamedTuple):
    """What a call lacks: on which budget, how much of it, and the same in words."""

    purse: Purse
    short_nusd: int
    why: str


def lacking(
    frame: Frame, rules: Sequence[Rule], rooms: Sequence[Room], least: Amounts, bound_nusd: int | None
) -> Lack | None:
    """What a call that does not fit lacks; None where no rule asks about that, or a raise would not let it go.

    least: what it takes when it is as small as is worth sending. bound_nusd: what it can cost as it was asked for; that
    is what it is to have.
    """
    asking = [rule for rule in rules if rule.ask == FULL]
    if not asking:
        return None
    narrow = None
    for room in rooms:
        short = {i for i, (wanted, left) in enumerate(zip(least, room.idle, strict=True)) if wanted > left}
        if not short:
            continue
        if short != {_USD} or not _of_a_run(room):
            return None
        narrow = room
    purse = None if narrow is None else _purse(frame, narrow, asking)
    if narrow is None or purse is None or purse.closed:
        return None
    needed = max(bound_nusd or 0, least.nusd)
    short_nusd, left = needed - narrow.free.nusd, show_usd(max(0, narrow.free.nusd))
    return Lack(
        purse,
        short_nusd,
        f"it can cost {show_usd(needed)}, and {left} of the {show_usd(narrow.limits['usd'])} of {purse.scope} is left: "
        f"a yes raises that limit by {show_usd(short_nusd)}",
    )


def raisable(frame: Frame, rules: Sequence[Rule], rooms: Sequence[Room]) -> Purse | None:
    """The budget that an answer may raise where none is in the way: the innermost that limits dollars."""
    own = [room for room in rooms if "usd" in room.limits and _of_a_run(room)]
    return _purse(frame, own[-1], rules) if own else None


def lift(call: Call | ToolStep, purse: Purse, nusd: int, said: str, world: World) -> Generator[Effect, Any, None]:
    """Raise a limit, and write down beside the call who did it, by how much and why."""
    limit: int = yield Raise(purse, nusd)
    reason = f"{show_usd(nusd)} more, {show_usd(limit)} now: {said}"
    yield note(call, world, "raise", reason, {"scope": str(purse.scope), "unit": "usd", "limit": limit, "nusd": nusd},
               guard="gate")  # fmt: skip


def _of_a_run(room: Room) -> bool:
    return room.scope.window in ("", SHARED)


def _purse(frame: Frame, room: Room, rules: Sequence[Rule]) -> Purse | None:
    purses: Sequence[Purse] = getattr(frame, "accounts", ())
    found = next((purse for purse in purses if purse.covers(room.scope)), None)
    if found is None or (found.of_file and not any(rule.origin for rule in rules)):
        return None
    return found
