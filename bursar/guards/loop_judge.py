"""What the loop guard decides: which signals a round of calls gives, and which rung of the ladder that is.

Arithmetic on hashes. Time comes in, on a clock that stands still while a model thinks: what passes on it is waiting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.guards.calls import ToolTraits, traits_of
from bursar.guards.loops import KINDS, NEVER, SIGNALS, LoopVerdict, Rungs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bursar.guards.calls import ToolFact
    from bursar.guards.loop_state import LoopState, Spent, Streak
    from bursar.guards.loops import LoopGuard

PATIENCE_US: Final = 30_000_000
"""What is asked for again after this long is waited for, and no repetition. The first block lasts as long."""
HURRY_US: Final = 5_000_000
"""A refused call that comes again sooner than this is counted; one that waited longer is a poll that does as told."""
_BROKEN_BY_USER: Final = ("stale", "volatile", "near", "same", "empty", "error")
_ORDER: Final = ("notice", "nudge", "block", "finish")


class _Judged(NamedTuple):
    fact: ToolFact
    traits: ToolTraits


def user_spoke(state: LoopState) -> None:
    """A message of the user: what comes after it was asked for. Streaks end; what was seen is still known."""
    state.turns += 1
    state.end(*_BROKEN_BY_USER)
    state.written.clear()
    state.unblock()


def observe(
    guard: LoopGuard, state: LoopState, facts: Sequence[ToolFact], spent: Spent, at_us: int | None = None
) -> LoopVerdict | None:
    """Take in the completed calls of one answer of the model; a verdict where they repeat what was there before.

    Calls that were asked for at once are one round: it is stale if all of it is, and identical calls in it count once.
    `at_us` is the time at which the results are there, on a clock that stands still while a model thinks; without it
    nothing counts as waiting.
    """
    round_: dict[str, _Judged] = {}
    for one in facts:
        traits = traits_of(one.tool, guard.tools)
        if not traits.exempt and traits.effect != "poll":
            placed = state.placed(one)
            round_.setdefault(placed.call + placed.result, _Judged(placed, traits))
        if one.moves is not None:
            state.move(one.tool, one.moves)
    judged = list(round_.values())
    found = _judge(guard, state, judged, spent, at_us) if judged else None
    state.steps += len(facts)
    state.spend(spent)
    return found


def said(guard: LoopGuard, state: LoopState, text: str, spent: Spent) -> LoopVerdict | None:
    """Take in an answer without tool calls, as a hash of what it says: the same again and again is a loop too."""
    streak = state.extend("text", [], text, first=0)
    found = _climb(guard, state, {"text": streak}, spent, Rungs(NEVER))
    state.spend(spent)
    return found


def admit(
    guard: LoopGuard, state: LoopState, tool: str, call: str, spent: Spent, at_us: int | None = None
) -> LoopVerdict | None:
    """Before a call is executed: None lets it go; "ask", "block" and "finish" refuse it (the first unless approved).

    `call` is what `calls.call_key` gives. A refused call that comes back at once counts as one more of the streak.
    """
    traits = traits_of(tool, guard.tools)
    if traits.exempt or traits.effect == "poll":
        return None
    call = state.place(tool, call)
    if traits.effect == "write" and call in state.written:
        action = "block" if guard.approve is None else "ask"
        return LoopVerdict(action, "repeated_write", 1, state.steps, state.steps, 0, 0, "streak", tool, call)
    streak, rungs = state.streaks.get("stale"), guard.rungs(traits.effect)
    if streak is None or streak.count < rungs.block or call not in streak.calls:
        return None
    until = state.blocked_until_us
    if at_us is not None and until is not None and at_us >= until:
        return None
    hurried = at_us is None or state.tried_us is None or at_us - state.tried_us < HURRY_US
    state.tried_us = at_us
    streak.count += hurried
    action = "finish" if streak.count >= rungs.finish else "block"
    state.finished = state.finished or action == "finish"
    return _verdict(state, "stale", streak, action, "streak", spent, tool, call)


def gone_on(state: LoopState, tool: str, spent: Spent) -> LoopVerdict | None:
    """Calls of the loop were refused, and the model still makes them; None where the loop is over."""
    streak = state.streaks.get("stale")
    if streak is None or not state.finished:
        return None
    return _verdict(state, "stale", streak, "finish", "streak", spent, tool, streak.key)


def _judge(
    guard: LoopGuard, state: LoopState, judged: list[_Judged], spent: Spent, at_us: int | None
) -> LoopVerdict | None:
    state.end("text")
    # A failure of the infrastructure is neither progress nor repetition; but the same call eight times is worth a note.
    solid = [one for one in judged if not one.fact.transient]
    hits: dict[str, Streak] = {}
    if solid and _waited(state, solid, at_us):
        state.end("same")
        if state.block_us:
            _block(state, at_us)
    else:
        together = judged[0].fact.call if len(judged) == 1 else ",".join(sorted({one.fact.call for one in judged}))
        hits["same"] = state.extend("same", [], together, first=0)
        if solid:
            hits |= _signals(state, solid)
    for fact, traits in solid:
        state.see(fact, at_us)
        if traits.effect == "write" and not fact.error and fact.call not in state.written:
            state.written.append(fact.call)
            del state.written[:-64]
    rungs = min(guard.rungs(effect) for effect in {one.traits.effect for one in judged})
    found = _climb(guard, state, hits, spent, rungs, judged[0].fact)
    if found is not None and found.action == "block":
        _block(state, at_us)
    return found


def _waited(state: LoopState, solid: list[_Judged], at_us: int | None) -> bool:
    if at_us is None:
        return False
    for fact, _ in solid:
        last = state.seen.get(fact.call)
        same = last is not None and last.result == fact.result and not fact.error
        if not same or last is None or last.at_us is None or at_us - last.at_us < PATIENCE_US:
            return False
    return True


def _block(state: LoopState, at_us: int | None) -> None:
    # Each block lasts twice as long as the one before, and then the call is let through once more.
    state.block_us = 2 * state.block_us or PATIENCE_US
    state.blocked_until_us = None if at_us is None else at_us + state.block_us
    state.tried_us = at_us


def _signals(state: LoopState, solid: list[_Judged]) -> dict[str, Streak]:
    calls = [one.fact.call for one in solid]
    hits: dict[str, Streak] = {}
    last = [state.seen.get(call) for call in calls]
    if not all(found and found.result == one.fact.result for found, one in zip(last, solid, strict=True)):
        state.end("stale")
        state.unblock()
    elif any(found is not None and found.turn == state.turns for found in last):
        # The first look back at something from before the user's last message is fair, and no progress either.
        hits["stale"] = state.extend("stale", calls)
    if all(found and found.masked == one.fact.masked for found, one in zip(last, solid, strict=True)):
        hits["volatile"] = state.extend("volatile", calls)
    else:
        state.end("volatile")
    hits |= _near(state, solid)
    for name, key in (("error", _failure(solid)), ("empty", _emptiness(solid))):
        if key is None:
            state.end(name)
        else:
            hits[name] = state.extend(name, calls, key, first=0)
    for fact, _ in solid:
        tool = f"stubborn {fact.tool}"
        if not fact.error:
            state.end(tool)
            continue
        hits["futile"] = state.failed(fact.call + fact.masked)
        stubborn = state.extend(tool, [fact.call], fact.masked, first=0)
        if stubborn.turn != state.turns:
            hits["stubborn"] = stubborn
    return hits


def _near(state: LoopState, solid: list[_Judged]) -> dict[str, Streak]:
    keys = [fact.near for fact, _ in solid if fact.near is not None]
    last = [state.near.get(key) for key in keys]
    again = all(found and found.masked == one.fact.masked for found, one in zip(last, solid, strict=False))
    if len(keys) < len(solid) or not again:
        state.end("near")
        return {}
    # A short call with other numbers each time is a sweep through them; a long text or two calls in turn are not.
    before, moved = state.streaks.get("near"), ",".join(keys)
    if before is not None and before.last == moved and not all(fact.bulky for fact, _ in solid):
        return {}
    streak = state.extend("near", keys)
    streak.last = moved
    return {"near": streak}


def _failure(solid: list[_Judged]) -> str | None:
    keys = {fact.tool + fact.masked for fact, _ in solid}
    return keys.pop() if len(keys) == 1 and solid[0].fact.error else None


def _emptiness(solid: list[_Judged]) -> str | None:
    tools = {fact.tool for fact, _ in solid}
    return tools.pop() if len(tools) == 1 and all(fact.empty for fact, _ in solid) else None


def _climb(
    guard: LoopGuard,
    state: LoopState,
    hits: Mapping[str, Streak],
    spent: Spent,
    rungs: Rungs,
    fact: ToolFact | None = None,
) -> LoopVerdict | None:
    best: LoopVerdict | None = None
    for name, streak in hits.items():
        if not streak.count:
            continue
        ladder = rungs if name == "stale" else SIGNALS[name]
        if name == "same" and guard.identical is not None:
            ladder = ladder._replace(finish=guard.identical - 1)
        reached = [rung for rung, count in zip(_ORDER[1:], ladder, strict=True) if streak.count >= count]
        why = "streak"
        warned = streak.count > ladder.nudge and ladder.finish < NEVER
        if warned and "finish" not in reached and _too_dear(guard, streak, spent):
            reached, why = [*reached, "finish"], "money"
        fresh = [rung for rung in reached if rung == "finish" or rung not in streak.said]
        streak.said += [rung for rung in fresh if rung not in streak.said]
        if not fresh and name != "stale":
            continue
        action = fresh[-1] if fresh else "notice"
        if best is None or _ORDER.index(action) > _ORDER.index(best.action):
            tool, call = ("", streak.key) if fact is None else (fact.tool, fact.call)
            best = _verdict(state, name, streak, action, why, spent, tool, call)
    if best is not None and best.action == "finish":
        state.finished = True
    return best


def _too_dear(guard: LoopGuard, streak: Streak, spent: Spent) -> bool:
    share = guard.share()
    if spent.limit_tokens is not None and spent.tokens - streak.tokens > share * spent.limit_tokens:
        return True
    if spent.limit_nusd is None or spent.nusd is None or streak.nusd is None:
        return False
    return spent.nusd - streak.nusd > share * spent.limit_nusd


def _verdict(
    state: LoopState, name: str, streak: Streak, action: str, why: str, spent: Spent, tool: str, call: str
) -> LoopVerdict:
    if name == "stale":
        one = len(streak.calls) == 1
        kind = ("identical_error" if "error" in state.streaks else "identical_result") if one else "cycle"
    else:
        kind = KINDS[name]
    nusd = None if spent.nusd is None or streak.nusd is None else spent.nusd - streak.nusd
    return LoopVerdict(
        action, kind, streak.count, streak.onset, state.steps, spent.tokens - streak.tokens, nusd, why, tool, call
    )
