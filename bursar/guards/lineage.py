"""What an operation follows: nothing, a failure of the same request, or a failure of another model at the same thing.

A request is the same when it says the same to the same model: messages, system prompt and tools, compared by hash. It
is sent again (resubmitted) when one like it failed, was cancelled or was left within `WINDOW_US`, and nobody is at it
any more: while one like it is in flight, or its SDK may still retry it, more of them are samples of one question. An
answer is no failure; asking again after one is `repeated`, a remark and no retry.

A fallback is the same conversation on another model, after a failure in the same run. Tools and a system message in
front may differ: vendors write them in different places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.words.events import AttemptSource, filled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bursar.words.events import ModelRequest

WINDOW_US: Final = 600_000_000
"""How long a failure is remembered: who asks again after more than ten minutes begins something new."""


class Asked(NamedTuple):
    """A request, told apart without its text. same: all it says. last: its last message. marks: each of them."""

    model: str
    same: int
    last: int
    marks: tuple[int, ...] = ()


class Told(NamedTuple):
    """What a conversation says, and what it says behind its first message: that may be a system prompt."""

    whole: int
    rest: int | None

    def speaks_as(self, other: Told) -> bool:
        """Whether both are one conversation, with or without a system message in front."""
        return self.whole in (other.whole, other.rest) or self.rest == other.whole


class Failure(NamedTuple):
    """An operation that failed: how often it and what it repeats were sent, and what that was charged.

    `asked` is without its marks, which are long; `told` is what they say. `ready_us`: from when on its SDK can no
    longer be waiting to send it again. `behind`: the failures of other models that it is a fallback from.
    """

    op_id: str
    asked: Asked
    told: Told
    run_id: str | None
    attempts: int
    nusd: int
    reason: str | None
    ended_us: int
    ready_us: int
    behind: tuple[Failure, ...] = ()


class Lineage(NamedTuple):
    """What an operation follows. `after` is the failure; `repeated`: the same was answered a short while ago."""

    source: AttemptSource | None = None
    after: Failure | None = None
    repeated: bool = False

    @property
    def fallback_from(self) -> str | None:
        """The model that failed before the caller turned to this one."""
        return self.after.asked.model if self.after is not None and self.source is _FALLBACK else None

    @property
    def resubmits(self) -> Failure | None:
        """The failure of the very same request."""
        return self.after if self.source is _HARNESS else None


_HARNESS: Final = AttemptSource.HARNESS
_FALLBACK: Final = AttemptSource.FALLBACK
NEW: Final = Lineage()
_REPEATED: Final = Lineage(repeated=True)


def asked_of(request: ModelRequest) -> Asked | None:
    """What a request says, as hashes; None for one that could not be read."""
    script = request.transcript
    marks = script.marks
    return filled(Asked, (request.model, hash((script.key, marks)), marks[-1], marks)) if marks else None


def told(marks: tuple[int, ...]) -> Told:
    """What these messages say, as hashes."""
    return Told(hash(marks), hash(marks[1:]) if len(marks) > 1 else None)


def lineage(
    asked: Asked,
    run_id: str | None,
    now_us: int,
    failures: Sequence[Failure],
    begun_us: Iterable[int],
    answered_us: int | None,
) -> Lineage:
    """Say what an operation follows.

    `failures`, oldest first, are those that nobody has followed yet; `begun_us` says when those began that are in
    flight, say the same and follow nothing; `answered_us` when this model last answered the same.
    """
    since_us = now_us - WINDOW_US
    repeated = answered_us is not None and answered_us >= since_us
    if not failures:
        return _REPEATED if repeated else NEW
    recent = [failure for failure in failures if failure.ended_us >= since_us]
    sampled = any(at_us >= since_us for at_us in begun_us)
    if sampled or any(failure.ready_us > now_us and failure.asked.same == asked.same for failure in recent):
        return _REPEATED if repeated else NEW
    for failure in reversed(recent):
        if failure.asked.model == asked.model and failure.asked.same == asked.same:
            return Lineage(AttemptSource.HARNESS, failure, repeated)
    for failure in reversed(recent):
        other = failure.asked.model != asked.model and failure.ready_us <= now_us
        if other and run_id is not None and failure.run_id == run_id and failure.told.speaks_as(told(asked.marks)):
            return Lineage(AttemptSource.FALLBACK, failure, repeated)
    return _REPEATED if repeated else NEW
