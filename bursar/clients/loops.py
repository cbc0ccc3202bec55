"""Look for loops in a request that is about to be sent: read what is new in it, judge it, say what is to be done."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar._errors import BursarWarning
from bursar._loops import Look
from bursar.clients.notes import result_ids
from bursar.clients.steps import Round, Spoke, StepReader
from bursar.guards.calls import fact, traits_of
from bursar.guards.loop_judge import observe, said, user_spoke
from bursar.guards.loop_notes import note
from bursar.guards.loop_state import Spent
from bursar.guards.results import digest
from bursar.tracing.redact import redact

if TYPE_CHECKING:
    from bursar._events import ModelRequest
    from bursar._loops import Conversation, Loops
    from bursar._run import Run
    from bursar.clients.steps import Happening
    from bursar.guards.loops import LoopGuard, LoopVerdict

_MOST_JUDGED: Final = 4_096
_MOST_NOTES: Final = 256


def look(
    loops: Loops, request: ModelRequest, body: Any, run: Run | None, now_us: int, *, observe_only: bool
) -> Look | None:
    """Judge what has happened since the last request of this conversation; None where its messages cannot be read.

    Never raises: a defect of ours must not stop a run, and is said.
    """
    messages = body.get("input" if request.api == "responses" else "messages") if isinstance(body, dict) else None
    if not isinstance(messages, list):
        return None
    marks = request.transcript.marks
    try:
        visible = {call_id for message in messages for call_id in result_ids(message)}
        conversation = loops.conversation(request.transcript.key, marks, visible)
        with conversation.lock:
            return _look(loops.guard, conversation, marks, messages, visible, _Now(run, now_us, observe_only))
    except Exception as error:  # noqa: BLE001 - the guard is a help; the call itself is what the caller wants
        what = redact(f"{type(error).__name__}: {error}")
        warnings.warn(f"loops could not be looked for ({what}). Please report this.", BursarWarning, stacklevel=4)
        return None


class _Now(NamedTuple):
    run: Run | None
    us: int
    observe_only: bool


def _look(
    guard: LoopGuard,
    conversation: Conversation,
    marks: tuple[int, ...],
    messages: list[Any],
    visible: set[str],
    now: _Now,
) -> Look:
    state = conversation.state
    if conversation.answered_us is not None:
        conversation.waited_us += max(0, now.us - conversation.answered_us)
        conversation.answered_us = None
    read = len(conversation.marks)
    fresh = messages[read:] if read and conversation.marks == marks[:read] else messages
    if read and fresh is messages:
        # The history was rewritten: what is no longer in it may be asked for again.
        state.forget({sighting.call_id for sighting in state.seen.values()} - visible)
    conversation.marks = marks
    was_finished, spent = state.finished, None
    verdicts: list[LoopVerdict] = []
    for happened, anchor in _read(conversation, messages, fresh):
        spent = spent or spent_of(now.run)
        found = _judge(guard, conversation, happened, spent)
        if found is not None:
            verdicts.append(found)
            if found.action != "notice" and anchor is not None and not now.observe_only:
                conversation.notes[anchor] = note(found.action, found.kind)
                if len(conversation.notes) > _MOST_NOTES:
                    del conversation.notes[next(iter(conversation.notes))]
    end = next((one for one in verdicts if one.action == "finish"), None)
    if end is not None and not was_finished and guard.on_loop == "finish":
        end = None
    return Look(tuple(verdicts), state.finished, end, conversation)


def _read(
    conversation: Conversation, messages: list[Any], fresh: list[Any]
) -> list[tuple[Happening, tuple[str, int] | None]]:
    # A round is judged once, also where a history was rewritten and is read again.
    reader, found = StepReader(), list[tuple[Any, tuple[str, int] | None]]()
    happened = [one for message in fresh for one in reader.feed(message)]
    happened += reader.finish()
    counts = Counter(call_id for message in messages for call_id in result_ids(message)) if happened else Counter()
    again = fresh is messages and bool(conversation.judged)
    if again:
        # What comes after the last round that is known is new.
        known = [n for n, one in enumerate(happened) if isinstance(one, Round) and _known(conversation, one)]
        happened = happened[known[-1] :] if known else happened
    for one in happened:
        if not isinstance(one, Round):
            found.append((one, None))
            continue
        calls = tuple(call for call in one.calls if not again or call.call_id not in conversation.judged)
        for call in calls:
            conversation.judged.pop(call.call_id, None)
            conversation.judged[call.call_id] = None
            if len(conversation.judged) > _MOST_JUDGED:
                del conversation.judged[next(iter(conversation.judged))]
        if calls:
            last = calls[-1].call_id
            found.append((Round(calls, one.mark), (last, counts[last] - 1)))
    return found


def _known(conversation: Conversation, found: Round) -> bool:
    return any(call.call_id in conversation.judged for call in found.calls)


def _judge(guard: LoopGuard, conversation: Conversation, happened: Happening, spent: Spent) -> LoopVerdict | None:
    state = conversation.state
    if isinstance(happened, Round):
        facts = [
            fact(
                call.tool,
                call.arguments,
                call.content,
                traits_of(call.tool, guard.tools),
                call_id=call.call_id,
                is_error=call.is_error,
            )
            for call in happened.calls
        ]
        return observe(guard, state, facts, spent, conversation.waited_us)
    if isinstance(happened, Spoke):
        return said(guard, state, digest(happened.text.encode("utf-8", "surrogatepass")), spent)
    user_spoke(state)
    state.spend(spent)
    return None


def spent_of(run: Run | None) -> Spent:
    """What a run has spent, and of how much."""
    if run is None:
        return Spent()
    settled, limits = run.spend.settled, run.limits
    nusd = None if run.unpriced else settled.nusd
    return Spent(settled.tokens, nusd, limits.get("tokens"), limits.get("usd"))
