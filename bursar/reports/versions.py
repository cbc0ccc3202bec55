"""What of a workflow was replaced between two periods: its system prompt, its tools, its prompt's version, its release.

Something has come where the later period has it and the earlier one has not. What it replaced is the latest of those
that were there before it and had ended by the time that it was half as old as it is now: a roll-out overlaps. Tokens
are means of the first calls of runs, since later ones carry the conversation; where it can be, of calls that differ in
nothing else that was sent with every call.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bursar.words.rows import Setup

KINDS: Final = {
    "system_hash": "system prompt",
    "tools_hash": "tool list",
    "prompt_version": "prompt version",
    "release": "release",
}
"""What may be replaced, by the field of `Setup` that says it, in the order in which it is told."""
_BESIDE: Final = {"system_hash": "tools_hash", "tools_hash": "system_hash"}
"""What has to be the same for a difference in tokens to be this one's."""
_RARE: Final = 0.05
"""The share of calls below which something is an attempt of somebody, and no change."""
_RESTLESS: Final = 0.5
"""Distinct hashes a call from which on there is nothing that was replaced: it differs from call to call."""
_ENOUGH: Final = 10


class Replaced(NamedTuple):
    """Something of a workflow that is new. before None: there was none, or there is another one beside it.

    share: of the calls since `since_us`. tokens: what the first call of a run has more of input, None if not known.
    restless: how many there were, where nearly every call has one of its own.
    """

    workflow: str
    kind: str
    since_us: int
    before: str | None
    after: str | None
    calls: int
    share: float
    tokens: int | None
    restless: int = 0


class _Life(NamedTuple):
    """One value of a kind: its calls, and when it was first and last seen, over both periods."""

    value: str | None
    calls: int
    first_us: int
    last_us: int


def replaced(before: Sequence[Setup], after: Sequence[Setup]) -> list[Replaced]:
    """Everything that came in the later period, in the order of `KINDS`, each in that of time."""
    old, new = _by_workflow(before), _by_workflow(after)
    found: list[Replaced] = []
    for workflow in sorted({*old} & {*new}):
        for kind in KINDS:
            found += _kind(workflow, kind, old[workflow], new[workflow])
    return found


def told(change: Replaced) -> str:
    """One line without its time: what came in the place of what, and how many tokens more a call has."""
    what = KINDS[change.kind]
    if change.restless:
        return f"the {what} differs from call to call ({change.restless:,} in {change.calls:,}): no cache keeps it"
    names = [_short(change.kind, name) for name in (change.before, change.after)]
    tokens = "" if change.tokens is None else f", {change.tokens:+,} tokens a call"
    if change.before is None and change.share < 1 - _RARE:
        return f"another {what} came ({names[1]}, in {change.share:.0%} of calls){tokens}"
    return f"the {what} changed ({names[0]} -> {names[1]}){tokens}"


def _by_workflow(rows: Iterable[Setup]) -> Mapping[str, list[Setup]]:
    found: dict[str, list[Setup]] = defaultdict(list)
    for row in rows:
        found[row.workflow].append(row)
    return found


def _kind(workflow: str, kind: str, old: list[Setup], new: list[Setup]) -> list[Replaced]:
    earlier = {getattr(row, kind) for row in old}
    if earlier == {None}:
        # A team that has begun to name its versions has changed nothing; nor has a ledger that has learned to hash.
        return []
    lives, ended = _lives(kind, [*old, *new]), earlier - {getattr(row, kind) for row in new}
    restless = _is_restless(kind, new)
    if restless:
        calls, first_us = sum(row.calls for row in new), min(row.first_us for row in new)
        # As it was before, it is no news.
        return [] if _is_restless(kind, old) else [
            Replaced(workflow, kind, first_us, None, None, calls, 1.0, None, restless)
        ]  # fmt: skip
    found = []
    came = [life for life in _lives(kind, new) if life.value not in earlier and life.value is not None]
    for life in sorted(came, key=lambda life: life.first_us):
        since = sum(row.calls for row in new if row.last_us >= life.first_us)
        share = life.calls / since
        if share < _RARE:
            continue
        gone = _gone(life, lives, ended)
        tokens = None if gone is None else _more(kind, gone.value, life.value, [*old, *new])
        name = None if gone is None else gone.value
        found.append(Replaced(workflow, kind, life.first_us, name, life.value, life.calls, share, tokens))
    return found


def _is_restless(kind: str, rows: list[Setup]) -> int:
    values, calls = {getattr(row, kind) for row in rows}, sum(row.calls for row in rows)
    return len(values) if calls >= _ENOUGH and len(values) > _RESTLESS * calls else 0


def _lives(kind: str, rows: Iterable[Setup]) -> list[_Life]:
    found: dict[str | None, _Life] = {}
    for row in rows:
        value = getattr(row, kind)
        known = found.get(value, _Life(value, 0, row.first_us, row.last_us))
        found[value] = _Life(
            value, known.calls + row.calls, min(known.first_us, row.first_us), max(known.last_us, row.last_us)
        )
    return list(found.values())


def _gone(new: _Life, lives: Iterable[_Life], ended: set[str | None]) -> _Life | None:
    half = (new.first_us + new.last_us) / 2
    before = [
        life
        for life in lives
        if life.value != new.value and (life.value in ended or (life.first_us < new.first_us and life.last_us <= half))
    ]
    return max(before, key=lambda life: (life.last_us, life.calls), default=None)


def _more(kind: str, before: str | None, after: str | None, rows: list[Setup]) -> int | None:
    """How much longer a first call is, of calls that are alike in the other block if there are any."""
    sides = [[row for row in rows if getattr(row, kind) == value and row.first_calls] for value in (before, after)]
    other = _BESIDE.get(kind)
    if other is not None:
        alike = {getattr(row, other) for row in sides[0]} & {getattr(row, other) for row in sides[1]}
        sides = [[row for row in side if not alike or getattr(row, other) in alike] for side in sides]
    if not sides[0] or not sides[1]:
        return None
    means = [sum(row.first_tokens for row in side) / sum(row.first_calls for row in side) for side in sides]
    return round(means[1] - means[0])


def _short(kind: str, value: str | None) -> str:
    if value is None:
        return "none"
    return value[:8] if kind.endswith("_hash") else value
