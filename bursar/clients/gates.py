"""A model call before its gates: what it says is frozen, so that what was approved is what is sent."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

import orjson

from bursar.clients.words import asked
from bursar.flow.gates import Gated
from bursar.guards.arguments import canonical

if TYPE_CHECKING:
    from bursar.flow.call import Call

_SHOWN: Final = 4_000
"""Characters of the last message that a person is shown."""


def frozen(body: Any) -> Any:
    """A copy of a body that nobody else holds: messages may be added to the caller's list while a person thinks."""
    try:
        return copy.deepcopy(body)
    except Exception:  # noqa: BLE001 - an object in it cannot be copied; the yes is then bound to what it says
        return body


def gate(call: Call, body: Any) -> None:
    """Set a call before its gates; `body` is what the caller gave."""
    call.gate = Gated(lambda: _told(call, body), lambda: _shown(call, body))


def _told(call: Call, body: Any) -> bytes:
    request = call.request
    said = call.body if call.body is not None else body
    # Without a body the marks of its messages stand for it: they tell it apart within this process.
    told = canonical(said) if said is not None else repr(request.transcript).encode()
    return f"{request.provider}\0{request.api}\0{request.cap}\0{request.service_tier}\0".encode() + told


def _shown(call: Call, body: Any) -> tuple[str, bool]:
    request = call.request
    said = asked(request.api, call.body if call.body is not None else body)
    last = said[-1] if said else None
    about: dict[str, Any] = {
        "provider": request.provider,
        "messages": len(request.transcript.tokens),
        "output_tokens_at_most": request.cap_default if request.cap is None else request.cap,
        "tools": request.tools_offered,
    }
    if last is not None:
        cut = len(last.text) > _SHOWN
        text = f"{last.text[: _SHOWN // 2]} ... {last.text[-_SHOWN // 2 :]}" if cut else last.text
        about[f"last_{last.role.replace(' ', '_')}"] = text.encode("utf-8", "replace").decode()
    # Of a model call a person sees what it is about, never all of it.
    return orjson.dumps(about).decode(), True
