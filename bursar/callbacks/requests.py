"""Translate what LangChain says of a call that is about to be sent into a neutral request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bursar.callbacks.shapes import body_of, shape_of, whole
from bursar.clients.requests import read
from bursar.clients.shapes import with_said
from bursar.clients.usage import fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bursar.words.events import ModelRequest


class Asking:
    """What one call asks: messages, or one text, and how LangChain describes the model that it asks."""

    __slots__ = ("_metadata", "_prompt", "messages", "params")

    def __init__(
        self,
        params: Mapping[str, Any],
        metadata: Mapping[str, Any],
        messages: Sequence[Any] = (),
        prompt: str | None = None,
    ) -> None:
        self.params, self._metadata, self.messages, self._prompt = params, metadata, messages, prompt

    def request(self, *, open_ended: bool | None) -> ModelRequest:
        """It as a neutral request; `open_ended` as in `request_of`."""
        request = request_of(self.messages, self.params, self._metadata, open_ended=open_ended)
        if self._prompt is None:
            return request
        return request._replace(transcript=read("completions", {"prompt": self._prompt}, None).transcript)

    def body(self) -> dict[str, Any]:
        """It as the body of a chat completion, for whoever looks at its words."""
        said = [{"role": "user", "content": self._prompt}] if self._prompt is not None else _told(self.messages)
        return {**body_of(self.params, self._metadata), "messages": said}


def request_of(
    messages: Iterable[Any], params: Mapping[str, Any], metadata: Mapping[str, Any], *, open_ended: bool | None = None
) -> ModelRequest:
    """A neutral request.

    `params` are LangChain's invocation parameters, `metadata` its `ls_...` ones. `open_ended` says whether nobody can
    put a cap into the request; None: if it has none.
    """
    told = _told(messages)
    shape = shape_of(params, metadata, open_ended)
    if shape is not None:
        try:
            return with_said(shape, told)
        except Exception:  # noqa: BLE001, S110 - objects of the caller may raise what they like
            pass
    # Read as a whole, they are bounded by their size at least.
    return whole(told, params, metadata, open_ended)


def _told(messages: Iterable[Any]) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    for message in messages:
        told = fields(message).get
        calls = told("tool_calls")
        one = {"role": told("type"), "content": told("content")}
        if calls:
            one["tool_calls"] = calls
        said.append(one)
    return said
