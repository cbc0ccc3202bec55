"""What happened in a conversation, read from its messages: who spoke, which tools were called, what came back.

One reader for every wire form, told apart by shape: chat completions (tool calls, and the older `function_call`),
Anthropic's blocks, items of Responses. Nothing is kept but what the caller gave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bursar.guards.loop_notes import NOTE_MARK
from bursar.guards.results import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})
_CALLS = frozenset({"function_call", "custom_tool_call"})


class UserSpoke(NamedTuple):
    """A message of the user."""


class Spoke(NamedTuple):
    """An answer of the model without tool calls; `mark` is what the reader was told when it was read."""

    text: str
    mark: int


class Completed(NamedTuple):
    """A tool call and its result, both as they stand in the messages."""

    call_id: str
    tool: str
    arguments: Any
    content: Any
    is_error: bool | None


class Round(NamedTuple):
    """The calls of one answer of the model that have a result, in the order in which they were asked for."""

    calls: tuple[Completed, ...]
    mark: int


class Refused(NamedTuple):
    """A call that was not made: what stands in place of its result says so."""

    call_id: str
    tool: str


Happening = UserSpoke | Spoke | Round | Refused


class StepReader:
    """Reads messages one after the other; a round is known to be over when something else begins."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[str, Any]] = {}
        self._done: dict[str, Completed] = {}
        self._refused: list[Refused] = []
        self._mark = 0

    def feed(self, message: Any, mark: int = 0) -> Iterator[Happening]:
        """Take in one message (or item of Responses); yields what is complete by now. Never raises."""
        if isinstance(message, str):
            yield from self._user(message)
            return
        dump = getattr(message, "model_dump", None)
        message = dump() if callable(dump) else message
        if not isinstance(message, dict):
            return
        role, kind = message.get("role"), message.get("type")
        if role in ("tool", "function") or kind in _RESULTS:
            content = message.get("output") if kind in _RESULTS else message.get("content")
            name = message.get("tool_call_id") or message.get("call_id") or message.get("name")
            self._result(name, content, message.get("is_error"))
        elif kind in _CALLS:
            yield from self._calls([_item_call(message)], mark)
        elif role == "assistant":
            yield from self._assistant(message, mark)
        elif role == "user":
            yield from self._user_message(message)

    def finish(self) -> Iterator[Happening]:
        """What the messages end with: calls that have their results by now."""
        if self._done:
            order = [self._done[call_id] for call_id in self._asked if call_id in self._done]
            yield Round(tuple(order), self._mark)
        yield from self._refused
        self._asked, self._done, self._refused = {}, {}, []

    def _assistant(self, message: dict[str, Any], mark: int) -> Iterator[Happening]:
        calls = [_chat_call(_dict(call)) for call in _list(message.get("tool_calls"))]
        older = message.get("function_call")
        if isinstance(older, dict):
            # It has no id: its result names the function.
            calls.append((older.get("name"), older.get("name"), older.get("arguments")))
        content = message.get("content")
        used = [block for block in _list(content) if _dict(block).get("type") == "tool_use"]
        calls += [(block.get("id"), block.get("name"), block.get("input")) for block in used]
        if calls:
            yield from self._calls(calls, mark)
            return
        said = text_of(content)
        if said:
            yield from self.finish()
            yield Spoke(said, mark)

    def _calls(self, calls: list[tuple[Any, Any, Any]], mark: int) -> Iterator[Happening]:
        if self._done or self._refused:
            yield from self.finish()
        self._mark = mark
        for call_id, tool, arguments in calls:
            self._asked[str(call_id)] = (str(tool), arguments)

    def _result(self, call_id: Any, content: Any, is_error: Any) -> None:
        asked = self._asked.get(str(call_id))
        if asked is None:
            return
        if _is_note(content):
            # It is neither progress nor repetition: it was counted when it was refused.
            self._refused.append(Refused(str(call_id), asked[0]))
        else:
            flag = is_error if isinstance(is_error, bool) else None
            self._done[str(call_id)] = Completed(str(call_id), *asked, _without_note(content), flag)

    def _user_message(self, message: dict[str, Any]) -> Iterator[Happening]:
        content = message.get("content")
        blocks = [block for block in _list(content) if _dict(block).get("type") == "tool_result"]
        for block in blocks:
            self._result(block.get("tool_use_id"), block.get("content"), block.get("is_error"))
        if not blocks:
            # What stands beside results is a reminder of the program that runs the tools.
            yield from self._user(text_of(content))

    def _user(self, text: str) -> Iterator[Happening]:
        if not text.startswith(NOTE_MARK):
            yield from self.finish()
            yield UserSpoke()


def _chat_call(call: dict[str, Any]) -> tuple[Any, Any, Any]:
    function = _dict(call.get("function") or call.get("custom"))
    return call.get("id"), function.get("name"), function.get("arguments", function.get("input"))


def _item_call(item: dict[str, Any]) -> tuple[Any, Any, Any]:
    return item.get("call_id"), item.get("name"), item.get("arguments", item.get("input"))


def _is_note(content: Any) -> bool:
    return isinstance(content, str) and content.startswith(NOTE_MARK) and "\n" not in content


def _without_note(content: Any) -> Any:
    if isinstance(content, str) and content.startswith(NOTE_MARK):
        return content.partition("\n")[2]
    return content


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
