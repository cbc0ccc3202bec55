"""Read what the providers say was used, and believe it only where it can be true.

Anthropic's `input_tokens` leaves cached tokens out, OpenAI's includes them; both become inclusive here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.clients.iterations import split
from bursar.clients.stated import stated
from bursar.words.events import CREDIT, SideUsage, Usage, filled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NO_FIELDS: Final[Mapping[str, Any]] = {}
MOST_TOKENS: Final = 10**9
"""No single call uses more: a larger number is a defect of the counter, not a count."""


class Reading(NamedTuple):
    """A usage, or None and the reason why there is none: "usage_missing" or "invalid_usage".

    `side` is what is billed on top of it, `model` what it is billed as where that is another model than was asked,
    `stated_nusd` what it says itself that it costs.
    """

    usage: Usage | None
    flags: tuple[str, ...] = ()
    side: tuple[SideUsage, ...] = ()
    model: str | None = None
    stated_nusd: int | None = None


_MISSING: Final = Reading(None, ("usage_missing",))
_INVALID: Final = Reading(None, ("invalid_usage",))
_INCONSISTENT: Final = ("inconsistent_usage",)


class _InvalidError(Exception):
    """A number that cannot be a count of tokens."""


def get(value: Any, name: str) -> Any:
    """A field of a typed object or of plain JSON."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def fields(value: Any) -> Mapping[str, Any]:
    """All fields of a typed object or of plain JSON, to look at. Where several are asked for it is cheaper than `get`.

    A field that a typed object lacks has to be looked for in its class, which takes the SDKs' models long.
    """
    if isinstance(value, dict):
        return value
    try:
        more = value.__pydantic_extra__
        return {**value.__dict__, **more} if more else value.__dict__
    except AttributeError:
        return getattr(value, "__dict__", _NO_FIELDS)


def word(value: Any) -> str | None:
    """A text, and nothing else that might stand in its place."""
    return value if isinstance(value, str) else None


def anthropic_usage(raw: Any) -> Reading:
    """Read a Messages usage (the `usage` of `message_start` merged with that of `message_delta` for a stream)."""
    reading = _with_cost(fields(raw), _read(raw))
    if reading.usage is None or (get(raw, "iterations") is None and get(raw, "fallback_credit") is None):
        return reading
    try:
        parts = split(get(raw, "iterations"), reading.usage, get, _anthropic)
    except _InvalidError:
        return Reading(None, ("invalid_usage",))
    credit = get(get(get(raw, "fallback_credit"), "status"), "type") == "redeemed"
    flags = (*reading.flags, *parts.flags, *((CREDIT,) if credit and CREDIT not in parts.flags else ()))
    return Reading(parts.usage, flags, parts.side, parts.model, reading.stated_nusd)


def chat_usage(raw: Any) -> Reading:
    """Read a Chat Completions usage."""
    told = fields(raw)
    return _with_cost(told, _openai(told, "prompt_tokens", "completion_tokens"))


def responses_usage(raw: Any) -> Reading:
    """Read a Responses usage."""
    told = fields(raw)
    return _with_cost(told, _openai(told, "input_tokens", "output_tokens"))


def counted(
    into: Any,
    out: Any,
    *,
    total: Any = None,
    read: Any = None,
    written: Any = None,
    half_day: int = 0,
    reasoned: Any = None,
    heard: Any = None,
    spoken: Any = None,
) -> Reading:
    """The usage of these counts, of which `into` includes what was read from the cache and written to it.

    What only the total has is counted as output: some vendors leave hidden thinking out of it, and bill it.
    """
    if into is None or out is None:
        return _MISSING
    try:
        given, made = _count(into), _count(out)
        read, written = _count(read) if read is not None else 0, _count(written) if written else 0
        reasoned = _count(reasoned) if reasoned is not None else 0
        heard, spoken = _count(heard) if heard is not None else 0, _count(spoken) if spoken is not None else 0
    except _InvalidError:
        return _INVALID
    if given == 0:
        # Every request has some: zeros are what a proxy writes that does not know.
        return _INVALID
    flags: tuple[str, ...] = ()
    if read + written > given:
        given, flags = read + written, _INCONSISTENT
    whole = made if reasoned <= made else made + reasoned
    if total.__class__ is int and total <= MOST_TOKENS:
        whole = max(whole, total - given)
    if whole != made:
        made, flags = whole, _INCONSISTENT
    # In the order of `Usage`'s fields.
    counts = (given, made, read, 0, written - half_day, 0, half_day, reasoned, 0, 0, 0, 0, 0, heard, spoken)
    reading: Reading = filled(Reading, (filled(Usage, counts), flags, (), None, None))
    return reading


def believable(value: Any) -> int | None:
    """A count of tokens that can be one."""
    try:
        return _count(value) or None
    except _InvalidError:
        return None


def _read(raw: Any) -> Reading:
    if raw is None:
        return _MISSING
    try:
        usage = _anthropic(raw)
    except _InvalidError:
        return _INVALID
    if usage is None:
        return _MISSING
    if usage.input_tokens == 0:
        # As above.
        return _INVALID
    return Reading(usage)


def _with_cost(told: Mapping[str, Any], reading: Reading) -> Reading:
    """Take in what it says that it costs."""
    if reading.usage is None:
        return reading
    nusd, flags = stated(told)
    return reading if nusd is None and not flags else reading._replace(flags=(*reading.flags, *flags), stated_nusd=nusd)


def _anthropic(raw: Any) -> Usage | None:
    look = fields(raw).get
    uncached, output = look("input_tokens"), look("output_tokens")
    if uncached is None or output is None:
        return None
    read, written = _count(look("cache_read_input_tokens")), _count(look("cache_creation_input_tokens"))
    hour = five = thought = searched = fetched = ran = 0
    lives, details, tools = look("cache_creation"), look("output_tokens_details"), look("server_tool_use")
    if lives is not None:
        within = fields(lives).get
        hour, five = _count(within("ephemeral_1h_input_tokens")), _count(within("ephemeral_5m_input_tokens"))
    if written > hour + five and hour:
        # The totals of a stream's end have outgrown the lifetimes of its beginning: the rest is as dear as can be.
        hour = written - five
    written = max(written, hour + five)
    if details is not None:
        thought = _count(get(details, "thinking_tokens"))
    if tools is not None:
        within = fields(tools).get
        searched, fetched = _count(within("web_search_requests")), _count(within("web_fetch_requests"))
        ran = _count(within("code_execution_requests"))
    into = _count(uncached) + read + written
    # In the order of `Usage`'s fields.
    usage: Usage = filled(
        Usage,
        (into, _count(output), read, written - hour, 0, hour, 0, thought, searched, fetched, 0, ran, 0, 0, 0),
    )
    return usage


def _openai(told: Mapping[str, Any], into: str, out: str) -> Reading:
    look = told.get
    inside, outside = look(into + "_details"), look(out + "_details")
    written = half_day = 0
    read = heard = reasoned = spoken = None
    if inside is not None:
        within = fields(inside).get
        read, heard = within("cached_tokens"), within("audio_tokens")
        try:
            written, half_day = _written(within)
        except _InvalidError:
            return _INVALID if look(into) is not None and look(out) is not None else _MISSING
    if outside is not None:
        within = fields(outside).get
        reasoned, spoken = within("reasoning_tokens"), within("audio_tokens")
    return counted(
        look(into),
        look(out),
        total=look("total_tokens"),
        read=read,
        written=written,
        half_day=half_day,
        reasoned=reasoned,
        heard=heard,
        spoken=spoken,
    )


def _written(within: Callable[[str], Any]) -> tuple[int, int]:
    """What was written to the cache, and how much of it for half a day."""
    written, lives = _count(within("cache_write_tokens")), within("cache_write_tokens_details")
    if lives is None:
        return written, 0
    half_day = _count(get(lives, "ttl_12h_tokens"))
    return max(written, half_day + _count(get(lives, "ttl_30m_tokens"))), half_day


def _count(value: Any) -> int:
    if value is None:
        return 0
    # A bool is no count, a text is no count, and neither is 12.5, NaN or minus one.
    if value.__class__ is not int or not 0 <= value <= MOST_TOKENS:
        raise _InvalidError
    count: int = value
    return count
