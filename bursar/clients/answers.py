"""Translate an answer that arrived whole: a typed message, its JSON, the bytes of its response."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from bursar.clients.asked import of_chat, of_items, of_messages
from bursar.clients.failures import of_error
from bursar.clients.usage import Reading, anthropic_usage, chat_usage, fields, get, responses_usage, word
from bursar.words.events import COMPACTED, Answer, Status, UsageSource, filled

if TYPE_CHECKING:
    from bursar.words.tools import ToolAsk

# Looking a member of an enumeration up takes as long as a call.
_OK: Final = Status.OK
_PROVIDER: Final = UsageSource.PROVIDER
_CODE: Final = frozenset({"code_execution", "bash_code_execution", "text_editor_code_execution"})
"""Anthropic's server tools that run in a container, by name."""
_SEARCHING: Final = re.compile(r"-search-(preview|api)")
_NO_SEARCH: Final = frozenset({"open_page", "find_in_page", "find"})


def of_message(api: str, body: Any, request_id: str | None = None, http: Any = None) -> Answer:
    """An answer that arrived whole: the SDK's object, its JSON, and the HTTP response that it came in, if at hand.

    An SDK reads "12" and true as numbers; what the provider really wrote is in the bytes of the response.
    """
    written = _written(http)
    usage = written.get("usage") or get(body, "usage")
    try:
        return _SHAPES[api](written or body, usage, request_id, body)
    except Exception:  # noqa: BLE001 - a shape that nobody knows is paid for all the same: it must reach the caller
        reading = USAGES[api](usage)
        return of_reading(reading._replace(flags=(*reading.flags, "unreadable")))


def of_refused(api: str, error: BaseException, request_id: str | None, http: Any) -> Answer:
    """An answer that arrived whole and that the SDK or the caller's parser then refused: paid for, as it says."""
    body = _written(http)
    if not isinstance(error, Exception) or not body:
        return of_error(error)
    return of_message(api, body, request_id, http)._replace(error_type=type(error).__name__)


def _written(http: Any) -> dict[str, Any]:
    if http is None:
        return {}
    try:
        content = http.content
    except Exception:  # noqa: BLE001 - not read, or closed: the SDKs have an exception of their own HTTP library each
        return {}
    try:
        body = orjson.loads(content)
    except ValueError:
        try:
            # NaN and Infinity are no JSON, but Python writes and reads them.
            body = json.loads(content)
        except (ValueError, RecursionError):
            return {}
    return body if isinstance(body, dict) else {}


def of_reading(
    reading: Reading,
    *,
    model: str | None = None,
    response_id: str | None = None,
    request_id: str | None = None,
    finish: str | None = None,
    cut: bool = False,
    tool_calls: int = 0,
    tier: str | None = None,
    speed: str | None = None,
    region: str | None = None,
    said: object = None,
    asked: tuple[ToolAsk, ...] = (),
) -> Answer:
    """An answer that arrived whole: what its usage was read to be, and what else it says.

    `finish` is why it ended, `cut` whether that was its output cap; `tier` is the service tier that served it.
    """
    usage, flags, side, billed, stated_nusd = reading
    charge = "bound" if usage is None else "usage"
    # In the order of `Answer`'s fields.
    ended = (_OK, usage, _PROVIDER, 0, 0, True, model, response_id, request_id, 200, None, None, finish, cut)
    served = (tool_calls, tier, speed, None, flags, charge, side, billed, region, said, False, None, stated_nusd, asked)
    made: Answer = filled(Answer, ended + served)
    return made


def not_nothing(answer: Answer) -> Answer:
    """An answer that has content: where its usage says that nothing was written, that is no count."""
    if answer.usage is None or answer.usage.output_tokens:
        return answer
    return answer._replace(usage=None, charge="bound", flags=(*answer.flags, "invalid_usage"))


def _anthropic(body: Any, usage: Any, request_id: str | None, said: object) -> Answer:
    told, counted, reading = fields(body).get, fields(usage).get, anthropic_usage(usage)
    stop = word(told("stop_reason"))
    blocks = told("content") or ()
    here = there = 0
    silent = True
    for block in blocks:
        seen = fields(block).get
        kind = seen("type")
        here += kind == "tool_use"
        there += kind == "server_tool_use"
        silent = silent and seen("text") == ""
    if there:
        ran = sum(1 for block in blocks if get(block, "type") == "server_tool_use" and get(block, "name") in _CODE)
        reading = _with(reading, code_executions=ran)
    answer = of_reading(
        reading,
        model=word(told("model")),
        response_id=word(told("id")),
        request_id=request_id,
        finish=stop,
        cut=stop == "max_tokens",
        tool_calls=here + there,
        tier=word(counted("service_tier")),
        speed=word(counted("speed")),
        region=word(counted("inference_geo")),
        said=said,
        asked=of_messages(blocks) if here else (),
    )
    return answer if silent else not_nothing(answer)


def _chat(body: Any, usage: Any, request_id: str | None, said: object) -> Answer:
    told, reading = fields(body).get, chat_usage(usage)
    model, choices = word(told("model")), told("choices") or ()
    calls: list[Any] = []
    silent = True
    for choice in choices:
        message = fields(get(choice, "message")).get
        calls += message("tool_calls") or ()
        silent = silent and not message("content")
    stop = word(get(choices[0], "finish_reason")) if choices else None
    if model is not None and "-search-" in model and _SEARCHING.search(model):
        # These models look something up for every answer; the API does not count it.
        reading = _with(reading, web_searches=1)
    answer = of_reading(
        reading,
        model=model,
        response_id=word(told("id")),
        request_id=request_id,
        finish=stop,
        cut=stop == "length",
        tool_calls=len(calls),
        tier=word(told("service_tier")),
        said=said,
        asked=of_chat(calls) if calls else (),
    )
    # A legacy completion may repeat its prompt, and write nothing.
    return answer if silent and not calls else not_nothing(answer)


def _responses(body: Any, usage: Any, request_id: str | None, said: object) -> Answer:
    reading = responses_usage(usage)
    status = word(get(body, "status"))
    why = word(get(get(body, "incomplete_details"), "reason"))
    items = get(body, "output") or ()
    calls = sum([str(get(item, "type")).endswith("_call") for item in items])
    answer = of_reading(
        _with(reading, **_tools(items)) if calls else reading,
        model=word(get(body, "model")),
        response_id=word(get(body, "id")),
        request_id=request_id,
        finish=why or status,
        cut=why == "max_output_tokens",
        tool_calls=calls,
        tier=word(get(body, "service_tier")),
        said=said,
        asked=of_items(items) if calls else (),
    )
    if items:
        answer = not_nothing(answer)
        # The answer of `responses.compact` is all compaction, and its usage of nothing else.
        if get(body, "object") != "response.compaction" and any(get(item, "type") == "compaction" for item in items):
            answer = answer._replace(flags=(*answer.flags, COMPACTED))
    return answer._replace(status=Status.ERROR) if status == "failed" else answer


def _tools(items: Any) -> dict[str, int]:
    kinds = [get(item, "type") for item in items]
    # Opening a page that was found, or looking inside it, is no search of its own.
    searches = [item for item in items if get(item, "type") == "web_search_call"]
    return {
        "web_searches": sum(1 for item in searches if get(get(item, "action"), "type") not in _NO_SEARCH),
        "file_searches": kinds.count("file_search_call"),
        "code_executions": kinds.count("code_interpreter_call"),
        "image_generations": kinds.count("image_generation_call"),
    }


def _with(reading: Reading, **counts: int) -> Reading:
    """A usage with what the answer shows and its numbers leave out."""
    usage = reading.usage
    if usage is None or not any(counts.values()):
        return reading
    return reading._replace(
        usage=usage._replace(**{name: max(count, getattr(usage, name)) for name, count in counts.items()})
    )


def _embeddings(body: Any, usage: Any, request_id: str | None, said: object) -> Answer:
    return of_reading(_embedding_usage(usage), model=word(get(body, "model")), request_id=request_id, said=said)


def _ordered(body: Any, usage: Any, request_id: str | None, said: object) -> Answer:
    del usage
    answer = Answer(_OK, response_id=word(get(body, "id")), request_id=request_id, http_status=200, charge="bound")
    return answer._replace(said=said)


def _embedding_usage(raw: Any) -> Reading:
    if raw is None:
        return chat_usage(None)
    told = {**raw, "total_tokens": None} if isinstance(raw, dict) else {"prompt_tokens": get(raw, "prompt_tokens")}
    return chat_usage({**told, "completion_tokens": 0})


# A legacy completion says its usage, its finish and its id where a chat completion does.
_SHAPES: Final = {
    "messages": _anthropic,
    "chat": _chat,
    "responses": _responses,
    "embeddings": _embeddings,
    "completions": _chat,
    "message_batches": _ordered,
    "batches": _ordered,
}
USAGES: Final = {
    "messages": anthropic_usage,
    "chat": chat_usage,
    "responses": responses_usage,
    "embeddings": _embedding_usage,
    "completions": chat_usage,
    "message_batches": anthropic_usage,
    "batches": chat_usage,
}
"""How each API says what was used."""
