"""The tool calls that an answer asks for, whole or streamed. Those that run at the provider are none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from bursar.clients.usage import get
from bursar.words.canonical import canonical
from bursar.words.tools import ToolAsk, declared, rule_for

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from bursar.runs.process import Process
    from bursar.words.events import Answer

_MOST: Final = 128
"""Calls of one answer that are told apart; more are only counted."""
_LONGEST: Final = 262_144
"""Characters kept of the arguments of one streamed call, until it is whole."""


def of_messages(blocks: Iterable[Any]) -> tuple[ToolAsk, ...]:
    """The `tool_use` blocks of a message."""
    found = [
        _ask(get(block, "name"), get(block, "id"), get(block, "input"))
        for block in blocks
        if get(block, "type") == "tool_use"
    ]
    return _named(found)


def of_chat(calls: Iterable[Any]) -> tuple[ToolAsk, ...]:
    """The tool calls of a chat completion, of all its choices."""
    return _named([_of_call(call) for call in calls])


def of_items(items: Iterable[Any]) -> tuple[ToolAsk, ...]:
    """The function and custom tool calls among the items of a response."""
    found = []
    for item in items:
        kind = get(item, "type")
        if kind in ("function_call", "custom_tool_call"):
            given = get(item, "arguments" if kind == "function_call" else "input")
            found.append(_ask(get(item, "name"), get(item, "call_id"), given))
    return _named(found)


class Streamed:
    """The tool calls of a stream, put together of their pieces."""

    def __init__(self) -> None:
        self._calls: dict[Hashable, tuple[Any, Any, list[str]]] = {}

    def begin(self, key: Hashable, name: Any, tool_call_id: Any) -> None:
        """A call begins; its pieces come under this key."""
        if len(self._calls) < _MOST:
            self._calls[key] = (name, tool_call_id, [])

    def add(self, key: Hashable, piece: Any) -> None:
        """The next piece of its arguments."""
        found = self._calls.get(key)
        if found is not None and isinstance(piece, str):
            found[2].append(piece[:_LONGEST])

    def asks(self) -> tuple[ToolAsk, ...]:
        """All of them, where the stream has come to its end."""
        found = [_ask(name, call_id, "".join(pieces)[:_LONGEST]) for name, call_id, pieces in self._calls.values()]
        return _named(found)


def marked(answer: Answer, owner: Process) -> Answer:
    """The answer with hashes in place of arguments, and with what is known of the tools. Never raises."""
    if not answer.asked:
        return answer
    asked = []
    for ask in answer.asked:
        spec, rule = declared.get(ask.name), rule_for(owner.settings.tools, ask.name)
        nusd = rule.nusd if spec is None or spec.nusd is None else spec.nusd
        args_hash = owner.fingerprints.of(canonical(_given(ask.args)).data)
        asked.append(ToolAsk(ask.name, ask.tool_call_id, None, args_hash, spec is not None, nusd, rule.effect))
    return answer._replace(asked=tuple(asked))


def _given(args: object) -> object:
    if type(args) is not str:
        return {} if args is None else args
    try:
        return orjson.loads(args or "{}")
    except ValueError:
        return args


def _of_call(call: Any) -> ToolAsk | None:
    function = get(call, "function") or get(call, "custom")
    given = get(function, "arguments")
    return _ask(get(function, "name"), get(call, "id"), get(function, "input") if given is None else given)


def _ask(name: Any, tool_call_id: Any, args: object) -> ToolAsk | None:
    if not isinstance(name, str) or not name:
        return None
    return ToolAsk(name, tool_call_id if isinstance(tool_call_id, str) else None, args)


def _named(found: list[ToolAsk | None]) -> tuple[ToolAsk, ...]:
    return tuple([ask for ask in found if ask is not None][:_MOST])
