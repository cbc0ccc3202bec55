"""What was asked in the last minutes, and how it ended, so that asking again can be told from asking anew.

Kept in the process, by hash, for the user of a call, else its session, else its run; a call that has none of them
follows nothing. Which of it an operation follows is decided in `guards/lineage.py`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from bursar.guards.lineage import NEW, Failure, lineage, told

if TYPE_CHECKING:
    from bursar.flow.call import Call
    from bursar.guards.lineage import Asked, Lineage

_MOST_KEPT: Final = 4_096
_MOST_FAILURES: Final = 64
_MOST_ANSWERS: Final = 16
_MOST_BEGUN: Final = 1_024
_Key = tuple[str, str, int]


class Past:
    """What one caller asked with one last message: what failed, what is in flight, what was answered.

    begun: by operation, what it says and when it began. answers: by model and what was said, when.
    """

    __slots__ = ("answers", "begun", "failures")

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self.begun: dict[str, tuple[int, int]] = {}
        self.answers: dict[tuple[str, int], int] = {}

    def begin(self, call: Call, asked: Asked, now_us: int) -> None:
        """Note that an operation is under way and what it asks for."""
        self.begun[call.op_id] = (asked.same, now_us)
        if len(self.begun) > _MOST_BEGUN:
            del self.begun[next(iter(self.begun))]

    def withdraw(self, call: Call, behind: tuple[Failure, ...]) -> None:
        """An operation, and what it follows, are no failures and not in flight."""
        self.begun.pop(call.op_id, None)
        for failure in behind:
            self.begun.pop(failure.op_id, None)
        if self.failures:
            gone = {call.op_id, *(failure.op_id for failure in behind)}
            self.failures = [failure for failure in self.failures if failure.op_id not in gone]


class Earlier:
    """The memory of one process; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pasts: OrderedDict[_Key, Past] = OrderedDict()

    def find(self, call: Call, now_us: int) -> Lineage:
        """What an operation would follow if it began now."""
        asked, key = _key(call)
        if asked is None or key is None:
            return NEW
        with self._lock:
            past = self._pasts.get(key)
            return NEW if past is None else _lineage(call, asked, past, now_us)

    def begin(self, call: Call, now_us: int) -> Lineage:
        """An operation is about to be sent: what it follows, which nobody else follows then."""
        asked, key = _key(call)
        if asked is None or key is None:
            return NEW
        with self._lock:
            past = self._pasts.get(key)
            if past is None:
                found, past = NEW, Past()
                self._pasts[key] = past
                if len(self._pasts) > _MOST_KEPT:
                    self._pasts.popitem(last=False)
            else:
                self._pasts.move_to_end(key)
                found = _lineage(call, asked, past, now_us)
            if found.after is None:
                past.begin(call, asked, now_us)
            else:
                past.failures.remove(found.after)
        call.past = past
        return found

    def again(self, call: Call, now_us: int) -> None:
        """The SDK sends an operation again that had failed."""
        asked, key = _key(call)
        with self._lock:
            past = self._pasts.get(key) if key is not None else None
            if past is not None and asked is not None:
                past.withdraw(call, ())
                if call.lineage.after is None:
                    past.begin(call, asked, now_us)

    def failed(self, call: Call, now_us: int, ready_us: int) -> None:
        """An attempt of an operation failed; its SDK may send it again until `ready_us`."""
        asked, key = _key(call)
        run_id = call.frame.run.id if call.frame.run is not None else None
        with self._lock:
            past = self._pasts.get(key) if key is not None else None
            if past is not None and asked is not None:
                behind = _behind(call)
                past.withdraw(call, behind)
                # What a fallback follows is there again for whoever goes back to it.
                known = {failure.asked for failure in past.failures}
                past.failures.extend(failure for failure in behind if failure.asked not in known)
                sent, nusd = call.sent_before, call.failed_before_nusd
                kept, said = asked._replace(marks=()), told(asked.marks)
                past.failures.append(
                    Failure(call.op_id, kept, said, run_id, sent, nusd, call.last_reason, now_us, ready_us, behind)
                )
                del past.failures[:-_MOST_FAILURES]

    def over(self, call: Call) -> None:
        """The SDK does not send an operation again that had failed: who asks the same now asks again."""
        _, key = _key(call)
        with self._lock:
            past = self._pasts.get(key) if key is not None else None
            for failure in list(past.failures) if past is not None else ():
                if failure.op_id == call.op_id and past is not None:
                    past.failures.remove(failure)
                    past.failures.append(failure._replace(ready_us=failure.ended_us))

    def answered(self, call: Call, now_us: int) -> None:
        """An operation was answered: it, and what led to it, are no failures any more."""
        asked, past = call.asked, call.past
        if asked is None or past is None:
            return
        with self._lock:
            if past.failures or call.lineage.after is not None:
                past.withdraw(call, _behind(call))
            else:
                past.begun.pop(call.op_id, None)
            past.answers[asked.model, asked.same] = now_us
            if len(past.answers) > _MOST_ANSWERS:
                del past.answers[next(iter(past.answers))]


def _lineage(call: Call, asked: Asked, past: Past, now_us: int) -> Lineage:
    # A conversation that is stored at the provider may say the same and mean the next step of it.
    answered_us = None if call.request.transcript.unbounded else past.answers.get((asked.model, asked.same))
    if not past.failures:
        return NEW if answered_us is None else lineage(asked, None, now_us, (), (), answered_us)
    run_id = call.frame.run.id if call.frame.run is not None else None
    begun = [at_us for same, at_us in past.begun.values() if same == asked.same]
    return lineage(asked, run_id, now_us, past.failures, begun, answered_us)


def _behind(call: Call) -> tuple[Failure, ...]:
    after = call.lineage.after
    if after is None or call.lineage.resubmits is not None:
        return () if after is None else after.behind
    return (*after.behind, after)


def _key(call: Call) -> tuple[Asked | None, _Key | None]:
    asked = call.asked
    if asked is None:
        return None, None
    frame = call.frame
    _, user, session = frame.who
    if user is not None:
        return asked, ("user", user, asked.last)
    if session is not None:
        return asked, ("session", session, asked.last)
    return asked, None if frame.run is None else ("run", frame.run.id, asked.last)
