"""What the requests of a caller have in common from call to call, read once; and with it what one of them says.

All but the messages: the model, its cap, its tools. They are made anew for each call, so they are known by what they
say. Of that a hash is kept and no word; what cannot be written as JSON is read each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar.clients import options
from bursar.clients.meter import Meter
from bursar.clients.summed import may_be_compacted, may_be_summed
from bursar.clients.transcript import weigh
from bursar.pricing.tokens import COUNTER
from bursar.words.events import ModelRequest, filled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_MOST_KNOWN: Final = 256
# A number or a text of a class of its own is not read as one; as JSON it would look like one.
_EXACTLY: Final = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_LISTS: Final = (list, tuple)
_SCRIPT: Final = ModelRequest._fields.index("transcript")


class Shapes:
    """Requests without messages, by what they were read from."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], ModelRequest] = {}

    def find(self, told: object, read: Callable[[], ModelRequest]) -> ModelRequest:
        """The request that is read from `told` and nothing else."""
        try:
            written = orjson.dumps(told, option=_EXACTLY)
        except (TypeError, ValueError, RecursionError):
            return read()
        key = (hash(written), len(written))
        found = self._known.get(key)
        if found is None:
            found = read()
            if COUNTER.ready:
                # Before, its tools were guessed at.
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[key] = found
        return found


class _Api(NamedTuple):
    """What an API says beside its messages: how that is read, and under which names."""

    options: Callable[[Mapping[str, Any], str | None], ModelRequest]
    names: frozenset[str]


_APIS: Final = {
    "messages": _Api(
        options.of_messages,
        frozenset(
            {"model", "max_tokens", "stream", "tools", "tool_choice", "thinking", "output_format", "output_config"}
            | {"cache_control", "service_tier", "speed", "inference_geo", "fallbacks"}
        ),
    ),
    "chat": _Api(
        options.of_chat,
        frozenset(
            {"model", *options.CHAT_CAPS, "stream", "tools", "functions", "response_format", "n", "service_tier"}
            | {"web_search_options", "audio", "modalities"}
        ),
    ),
    "responses": _Api(
        options.of_responses,
        frozenset(
            {"model", "max_output_tokens", "stream", "tools", "text", "service_tier", "background", "max_tool_calls"}
        ),
    ),
}
CONVERSATIONS: Final = _APIS.keys()
"""The APIs whose requests are messages, and what is asked for beside them."""
_shapes: Final = Shapes()


def conversation(
    api: str, body: Mapping[str, Any], host: str | None, seller: str | None, region: str | None
) -> ModelRequest:
    """A request to one of `CONVERSATIONS`; `seller` and `region` as in `requests.read`."""
    read, names = _APIS[api]
    told = {name: value for name, value in body.items() if name in names}

    def shape() -> ModelRequest:
        found = read(told, host)
        return found if seller is None else found._replace(provider=seller, region=region)

    found = _shapes.find((api, host, seller, region, told), shape)
    get = body.get
    if api == "chat":
        return with_said(found, _list(get("messages")), (get("response_format"),))
    if api == "messages":
        request = with_said(found, _list(get("messages")), (get("system"),))
        return request._replace(summed=True) if may_be_summed(body, request) else request
    said, stored, prompt = get("input"), get("previous_response_id") or get("conversation"), get("prompt")
    request = with_said(
        found,
        [said] if isinstance(said, str) else _list(said),
        (get("instructions"), get("text"), prompt),
        first=str(stored) if stored else None,
        unbounded=bool(stored or prompt),
    )
    return request._replace(summed=True) if may_be_compacted(body, request) else request


def with_said(
    shape: ModelRequest,
    messages: Sequence[Any],
    always: Sequence[Any] = (),
    *,
    first: str | None = None,
    unbounded: bool = False,
) -> ModelRequest:
    """The request with these messages, and with what else it says every time (`always`: a system prompt, a format).

    `first` tells conversations apart that begin alike; `unbounded` says that the provider adds what is not here.
    """
    api = shape.api
    meter = Meter("anthropic" if api == "messages" else "openai", shape.model)
    script, blocks = weigh(shape.transcript, messages, always, meter, first=first, unbounded=unbounded)
    values = list(shape)
    values[_SCRIPT] = script
    request: ModelRequest = filled(ModelRequest, values)
    if api == "messages":
        life = None if shape.cache_write == "1h" else options.cache_life(*always, *blocks)
        return request if life is None else request._replace(cache_write=life)
    return request._replace(heard=True) if script.media and api == "chat" and _has_sound(messages) else request


def _has_sound(messages: Sequence[Any]) -> bool:
    spoken = [message for message in messages if isinstance(message, dict)]
    parts = [part for message in spoken for part in _list(message.get("content"))]
    # Of its own earlier answers that were spoken the model hears the sound again.
    return any(isinstance(part, dict) and part.get("type") == "input_audio" for part in parts) or any(
        message.get("audio") is not None for message in spoken
    )


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, _LISTS) else ()
