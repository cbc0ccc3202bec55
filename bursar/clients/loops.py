"""Look for loops in a request that is about to be sent: read what is new in it, judge it, say what is to be done."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.clients.notes import result_ids
from bursar.clients.steps import Refused, Round, Spoke, StepReader
from bursar.clients.stored_calls import continued
from bursar.guards.calls import fact, traits_of
from bursar.guards.loop_judge import gone_on, observe, said, user_spoke
from bursar.guards.loop_notes import note
from bursar.guards.results import digest
from bursar.runs.loops import Look
from bursar.tracing.redact import redact
from bursar.words.errors import BursarWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bursar.clients.steps import Happening, UserSpoke
    from bursar.guards.loop_state import Spent
    from bursar.guards.loops import LoopGuard, LoopVerdict
    from bursar.runs.loops import Conversation, Loops
    from bursar.runs.run import Run
    from bursar.words.events import ModelRequest

    Placed = list[tuple[Happening, str | None]]

_MOST_JUDGED: Final = 4_096
_MOST_NOTES: Final = 256


class News(NamedTuple):
    """What is to be judged: messages that were not read before, as plain data.

    `again`: some of them may have been, since the history was rewritten or is kept elsewhere. `visible`: the calls
    whose results are still there, None where all that was seen is. `count` says how often a call's id has a result.
    """

    messages: Sequence[Any]
    again: bool
    visible: set[str] | None
    count: Callable[[str], int]


class Now(NamedTuple):
    """When, and for whom: `us` is the time, `ends` whether the last rung ends the run at once."""

    run: Run | None
    us: int
    observe_only: bool
    ends: bool = False
    acts: bool = True


def look(
    loops: Loops, request: ModelRequest, body: Any, run: Run | None, now_us: int, *, observe_only: bool
) -> Look | None:
    """Judge what has happened since the last request of this conversation; None where its messages cannot be read.

    Never raises: a defect of ours must not stop a run, and is said.
    """
    messages = body.get("input" if request.api == "responses" else "messages") if isinstance(body, dict) else None
    messages = [messages] if isinstance(messages, str) else messages
    if not isinstance(messages, list):
        return None
    now = Now(run, now_us, observe_only)
    try:
        thread, found = continued(loops, request.api, body, messages)
        if found is not None:
            conversation, whole = found
            with conversation.lock:
                news = News(whole, again=True, visible=None, count=_counted(messages))
                return take_in(loops.guard, conversation, news, now, thread)
        return by_marks(loops, request, messages, now, thread)
    except Exception as error:  # noqa: BLE001 - the guard is a help; the call itself is what the caller wants
        say(error)
        return None


def by_marks(loops: Loops, request: ModelRequest, messages: list[Any], now: Now, thread: str | None = None) -> Look:
    """Judge a conversation that is known by its beginning and by what was read of it."""
    marks = request.transcript.marks
    visible = {call_id for message in messages for call_id in result_ids(message)}
    conversation = loops.conversation(request.transcript.key, marks, visible)
    with conversation.lock:
        read = len(conversation.marks)
        goes_on = bool(read) and conversation.marks == marks[:read]
        conversation.marks = marks
        fresh = messages[read:] if goes_on else messages
        again = not goes_on
        news = News(fresh, again, visible if again and read else None, _counted(messages))
        return take_in(loops.guard, conversation, news, now, thread)


def take_in(guard: LoopGuard, conversation: Conversation, news: News, now: Now, thread: str | None = None) -> Look:
    """Judge what is new in a conversation, whose lock is held, and say what is to be done."""
    state = conversation.state
    conversation.wait_until(now.us)
    if news.visible is not None:
        # The history was rewritten: what is no longer in it may be asked for again.
        state.forget({sighting.call_id for sighting in state.seen.values()} - news.visible)
    was_finished, spent = state.finished, None
    # Refused calls have counted up to the end already: then the question is whether the last answer was asked for.
    goes_on = conversation.asked_last or guard.on_loop == "raise" or now.ends
    verdicts: list[LoopVerdict] = []
    for happened, anchor in _read(conversation, news):
        spent = spent or conversation.spent(now.run)
        if isinstance(happened, Refused):
            found = gone_on(state, happened.tool, spent) if goes_on else None
        else:
            found = _judge(guard, conversation, happened, spent)
        if found is not None:
            verdicts.append(found)
            if found.action != "notice" and anchor is not None and now.acts and not now.observe_only:
                _place(conversation, (anchor, news.count(anchor) - 1), note(found.action, found.kind))
    end = next((one for one in verdicts if one.action == "finish"), None)
    if end is not None and not was_finished and guard.on_loop == "finish" and not now.ends:
        end = None
    last = state.finished and (now.acts or end is not None)
    conversation.asked_last = last
    return Look(tuple(verdicts), last, end, conversation, now.acts, thread)


def say(error: Exception) -> None:
    """Say that the guard itself has failed."""
    what = redact(f"{type(error).__name__}: {error}")
    warnings.warn(f"loops could not be looked for ({what}). Please report this.", BursarWarning, stacklevel=5)


def _place(conversation: Conversation, anchor: tuple[str, int], text: str) -> None:
    conversation.notes[anchor] = text
    if len(conversation.notes) > _MOST_NOTES:
        del conversation.notes[next(iter(conversation.notes))]


def _counted(messages: list[Any]) -> Callable[[str], int]:
    counts: Counter[str] = Counter()

    def count(call_id: str) -> int:
        if not counts:
            counts.update(call_id for message in messages for call_id in result_ids(message))
        return counts[call_id]

    return count


def _read(conversation: Conversation, news: News) -> Placed:
    # A round is judged once, also where a history was rewritten and is read again.
    reader, found = StepReader(), list[tuple[Any, str | None]]()
    happened = [one for message in news.messages for one in reader.feed(message)]
    happened += reader.finish()
    again = news.again and bool(conversation.judged)
    if again:
        # What comes after the last round that is known is new.
        known = [n for n, one in enumerate(happened) if isinstance(one, Round) and _known(conversation, one)]
        happened = happened[known[-1] :] if known else happened
    for one in happened:
        if isinstance(one, Refused) and not (again and one.call_id in conversation.judged):
            _remember(conversation, one.call_id)
            found.append((one, None))
        elif isinstance(one, Round):
            calls = tuple(call for call in one.calls if not again or call.call_id not in conversation.judged)
            for call in calls:
                _remember(conversation, call.call_id)
            if calls:
                found.append((Round(calls, one.mark), calls[-1].call_id))
        elif not isinstance(one, Refused):
            found.append((one, None))
    return found


def _remember(conversation: Conversation, call_id: str) -> None:
    conversation.judged.pop(call_id, None)
    conversation.judged[call_id] = None
    if len(conversation.judged) > _MOST_JUDGED:
        del conversation.judged[next(iter(conversation.judged))]


def _known(conversation: Conversation, found: Round) -> bool:
    return any(call.call_id in conversation.judged for call in found.calls)


def _judge(
    guard: LoopGuard, conversation: Conversation, happened: UserSpoke | Spoke | Round, spent: Spent
) -> LoopVerdict | None:
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
