"""LangGraph's `interrupt()` as an approver: the graph stops, is kept, and goes on wherever it is resumed.

The node runs again when it is resumed, and comes to the same question again. It is known by its place (the thread, the
task and what the call says), so it is asked once. LangGraph hands out answers in the order of the interrupts of a node,
whatever they ask: an answer that arrives before its question was ever shown is to another one, and is passed over.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from bursar.approvals.approver import UnableError
from bursar.words.errors import ConfigError
from bursar.words.questions import Reply

if TYPE_CHECKING:
    from bursar.approvals.book import Book
    from bursar.approvals.rows import Row
    from bursar.words.questions import Question

_YES: Final = ("yes", "y", "approve", "approved", "accept")
_OUTSIDE: Final = (
    "interrupt asks inside of a LangGraph node whose graph has a checkpointer and a thread_id, and this call is in "
    "none; name another approver behind it, as in approver=['interrupt', 'terminal']"
)


def place_of() -> str:
    """Where in which graph this is: the thread and the task. Raises `UnableError` outside of any."""
    if "langgraph" not in sys.modules:
        raise UnableError(_OUTSIDE)
    from langgraph.config import get_config

    try:
        config = get_config().get("configurable") or {}
    except RuntimeError:
        raise UnableError(_OUTSIDE) from None
    thread = config.get("thread_id")
    if thread is None:
        raise UnableError(_OUTSIDE)
    return f"{thread}\0{config.get('checkpoint_ns', '')}"


class Interrupt:
    """Asks by interrupting the graph. `fresh`: the question was not there when the node ran before."""

    name = "interrupt"
    waits = False

    def __init__(self, book: Book, *, fresh: bool) -> None:
        self._book, self._fresh = book, fresh

    def ask(self, row: Row, question: Question, most_us: int) -> Reply:  # noqa: ARG002 - what every approver is given
        """Interrupt the graph, or read the answer that it is resumed with."""
        from langgraph.types import interrupt

        payload = _payload(row, question)
        for _ in range(row.skip):
            interrupt(payload)
        said = interrupt(payload)
        while self._fresh:
            self._book.skip(row.id)
            said = interrupt(payload)
        return read(said)

    async def aask(self, row: Row, question: Question, most_us: int) -> Reply:
        """As `ask`: it does not wait, and belongs into the task of the node."""
        return self.ask(row, question, most_us)


def read(said: Any) -> Reply:
    """What a graph was resumed with, as an answer; whatever is not clearly a yes is a no."""
    if isinstance(said, Reply):
        return said
    if said is True or (isinstance(said, str) and said.strip().lower() in _YES):
        return Reply(yes=True)
    if isinstance(said, dict):
        return _read_dict(said)
    return Reply(yes=False, reason=_text(said))


def _read_dict(said: dict[str, Any]) -> Reply:
    decision = str(said.get("decision", said.get("type", ""))).strip().lower()
    by, reason = _text(said.get("by")), _text(said.get("reason", said.get("message")))
    try:
        if decision == "edit" and isinstance(said.get("arguments"), dict):
            more = said.get("raise_usd")
            return Reply(yes=True, arguments=said["arguments"], by=by, reason=reason, raise_usd=more)
        if decision in _YES:
            scope = {name: said.get(name) for name in ("up_to_usd", "until", "raise_usd")}
            return Reply(yes=True, scope=said.get("scope", "once"), by=by, reason=reason, **scope)
    except (ConfigError, TypeError) as error:
        return Reply(yes=False, reason=f"the answer cannot be meant: {error}", by=by)
    return Reply(yes=False, reason=reason, by=by)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _payload(row: Row, question: Question) -> dict[str, Any]:
    return {
        "approval": row.id,
        "kind": question.kind,
        "name": question.name,
        "arguments": row.arguments,
        "why": question.why,
        "likely_usd": None if question.likely_usd is None else str(question.likely_usd),
        "at_most_usd": None if question.bound_usd is None else str(question.bound_usd),
        "short_usd": None if question.short_usd is None else str(question.short_usd),
        "answers": [
            "approve",
            "deny",
            {"decision": "edit", "arguments": "..."},
            {"decision": "deny", "reason": "..."},
            {"decision": "approve", "raise_usd": "..."},
        ],
    }
