"""The words that every room uses: amounts, usage, what a call asks for and how it ended.

Names follow OpenTelemetry GenAI where it has one: `input_tokens` includes cached tokens, `cache_read` and
`cache_write` are parts of it, `reasoning` is a part of `output_tokens`.
"""

from __future__ import annotations

from enum import StrEnum
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.words.money import usd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from decimal import Decimal

    from bursar.words.tools import ToolAsk


class Amounts(NamedTuple):
    """One value for each unit that a limit can be set on; `nusd` is nano-dollars, the others are counts."""

    nusd: int = 0
    tokens: int = 0
    uncached_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    model_calls: int = 0
    tool_calls: int = 0

    @property
    def usd(self) -> Decimal:
        """The dollars among them, exactly."""
        return usd(self.nusd)


UNITS = ("usd", "tokens", "uncached_tokens", "input_tokens", "output_tokens", "model_calls", "tool_calls")
"""Names of the units as users write them, in the order of `Amounts`."""

NOTHING = Amounts()

filled: Final = tuple.__new__
"""A named tuple of a plain one that has all its values, `filled(Amounts, (...))`: where it is made for every call. Its
own constructor is a function of Python's and takes three times as long."""


def parts_of(kind: type[NamedTuple], *names: str) -> Callable[[Any], tuple[Any, ...]]:
    """What takes these fields out of a named tuple, in this order: each by its name would be a look-up of its own."""
    return itemgetter(*(kind._fields.index(name) for name in names))


class Usage(NamedTuple):
    """Tokens of one attempt as the provider counted them (or as we did, see `UsageSource`).

    `input_tokens` includes all cache reads and writes; the write parts are told apart by how long they live. Audio is
    a part of input and of output. The rest counts what the provider's own tools did.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_30m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_write_12h_tokens: int = 0
    reasoning_tokens: int = 0
    web_searches: int = 0
    web_fetches: int = 0
    file_searches: int = 0
    code_executions: int = 0
    image_generations: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0

    @property
    def cache_write_tokens(self) -> int:
        """Cache writes of every lifetime."""
        return (
            self.cache_write_5m_tokens
            + self.cache_write_30m_tokens
            + self.cache_write_1h_tokens
            + self.cache_write_12h_tokens
        )


class SideUsage(NamedTuple):
    """Tokens that a call caused beside its own answer: a summary of the context, an advisor, a model that declined.

    `kind` is the provider's word (Anthropic's `usage.iterations[].type`); `model` None is the model of the call.
    """

    kind: str
    model: str | None
    usage: Usage


UNCLEAR = "iterations_unclear"
"""Flag: totals and entries of a usage differ, or an entry is of a kind that nobody knows; the larger was taken."""
DECLINED = "declined_hop"
"""Flag: a model that declined was counted; vendors bill some of these and not others."""
IN_PART = "cost_in_part"
"""Flag: the seller says what he takes, and not what another one bills for the same call."""
COMPACTED = "compaction_unclear"
"""Flag: the context was summed up within the call, and the vendor does not say whether its usage counts that."""
CREDIT = "fallback_credit"
"""Flag: cache writes of the model that answered after another one declined may be billed as reads."""
LESS_BILLED: Final = frozenset({UNCLEAR, DECLINED, CREDIT})
"""Flags: the bill may be smaller than what was counted."""
MORE_BILLED: Final = frozenset({IN_PART, COMPACTED})
"""Flags: it may be larger."""


def sum_usage(usages: Iterable[Usage]) -> Usage:
    """Everything that was counted, together."""
    return Usage(*map(sum, zip(*usages, strict=True)))


class UsageSource(StrEnum):
    """Who counted the tokens of a record."""

    PROVIDER = "provider"
    STREAM_PARTIAL = "stream_partial"
    ESTIMATED = "estimated"
    NONE = "none"


class CostStatus(StrEnum):
    """How sure a cost is.

    list_price: every token priced at its dated list price, or at the rate that was set for it. upper_bound,
    lower_bound: at least one part could only be bounded. estimated: the tokens were estimated. provider: the provider
    named the cost. unknown: no price; the cost is NULL, never zero.
    """

    LIST_PRICE = "list_price"
    UPPER_BOUND = "upper_bound"
    LOWER_BOUND = "lower_bound"
    ESTIMATED = "estimated"
    PROVIDER = "provider"
    UNKNOWN = "unknown"


class Status(StrEnum):
    """How an attempt ended. asked: of a tool call, an answer asked for it; whether it was made is not known here."""

    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"
    BLOCKED = "blocked"
    ASKED = "asked"


class RetryReason(StrEnum):
    """Why an attempt was followed by another one."""

    RATE_LIMIT = "rate_limit"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    CONNECTION = "connection"
    OTHER = "other"


class AttemptSource(StrEnum):
    """Who sent an attempt again; of the first attempt at something new nobody did.

    sdk: the SDK, inside one call of it. harness: the caller, who asked the same once more after it had failed.
    fallback: the caller, who asked another model after one had failed.
    """

    SDK = "sdk"
    HARNESS = "harness"
    FALLBACK = "fallback"


class Transcript(NamedTuple):
    """What goes in, measured and not kept: token estimates and bytes, never text.

    tokens: one estimate a message, its overhead included. marks: one hash a message, to see what was added since
    the last call. fixed_tokens: system prompt and tool schemas; fixed_most: the same, counted so that it is hardly
    more (0: alike). utf8_bytes: of everything that is text. key: the conversation (system prompt and first message).
    unbounded: the provider will add what nothing here bounds (a stored conversation, a file, a picture that only it
    sees). media, media_most: tokens of what each message attaches, by the vendor's rules, probably and at most; empty
    where nothing is attached. system_hash, tools_hash: of what is said with every call, the same in every process; None
    where nothing is.
    """

    tokens: tuple[int, ...] = ()
    marks: tuple[int, ...] = ()
    fixed_tokens: int = 0
    utf8_bytes: int = 0
    key: int = 0
    unbounded: bool = False
    fixed_most: int = 0
    media: tuple[int, ...] = ()
    media_most: tuple[int, ...] = ()
    system_hash: str | None = None
    tools_hash: str | None = None


class Helper(NamedTuple):
    """Another model that the provider may ask within a call.

    `uses`: an advisor, and how often it may be asked; 0 for a fallback, which answers in the place of the model that
    was asked. `cap` is what it may write each time, None where the request does not say. `cache_write`: how long an
    advisor's own prompt is to be cached, None for not at all. `speed` as in the request.
    """

    model: str
    uses: int = 0
    cap: int | None = None
    cache_write: str | None = None
    speed: str | None = None


class ModelRequest(NamedTuple):
    """One request to a model in neutral words; adapters make it from their own wire format.

    cap: the output cap as the caller set it, None where absent; `cap_default` is what the model allows then.
    thinking: tokens of the thinking budget, part of the cap. reasoning: the model thinks before it answers.
    clampable: whether the cap may be lowered (structured output may not). open_ended: nobody can put a cap into the
    request, and its output is taken to stay under what calls like it were seen to write. cache_write: the longest
    lifetime of cache write that the request allows ("5m", "1h", ...), None where none is asked for. region: where it
    is to be processed, None where the request does not say. deferred: "batch" or "background" for what is ordered now
    and counted when its results are fetched. heard, spoken: whether sound goes in, or may come out. summed: whether
    the provider may read the whole context once more, to sum it up, which it says at the very end. helpers: other
    models that it may ask within the call.
    """

    provider: str
    model: str
    api: str
    stream: bool
    transcript: Transcript
    cap: int | None
    cap_default: int
    host: str | None = None
    thinking: int = 0
    reasoning: bool = False
    clampable: bool = True
    open_ended: bool = False
    choices: int = 1
    cache_write: str | None = None
    service_tier: str | None = None
    speed: str | None = None
    searches: int = 0
    tools_offered: int = 0
    region: str | None = None
    deferred: str | None = None
    heard: bool = False
    spoken: bool = False
    summed: bool = False
    helpers: tuple[Helper, ...] = ()


class Answer(NamedTuple):
    """How an attempt ended, in neutral words. `usage` is None where the provider gave none that can be believed.

    `output_seen`: of a stream that was cut, the tokens that the provider may have counted by then; `output_read`: those
    of what came, by our own count. `side` is what is billed on top of `usage`. `billed_model` is what `usage` is billed
    as where the provider says that another model answered than was asked; `region` where it says it was processed.
    `said` is the answer itself as the adapter has it, for whoever was told to keep content; nobody else looks at it.
    `retryable`: an SDK sends such a request again, where it has retries left. `retry_after_us` is how long the provider
    asks it to wait before that, None where it does not say. `stated_nusd` is what the usage says that it costs,
    whether or not its seller is one to say so. `tool_calls` counts those that run at the provider as well, `asked` has
    the others, where the answer is whole.
    """

    status: Status
    usage: Usage | None = None
    usage_source: UsageSource = UsageSource.NONE
    output_seen: int = 0
    output_read: int = 0
    sent: bool = True
    response_model: str | None = None
    response_id: str | None = None
    request_id: str | None = None
    http_status: int | None = None
    error_type: str | None = None
    retry_reason: RetryReason | None = None
    finish_reason: str | None = None
    truncated: bool = False
    tool_calls: int = 0
    tier_served: str | None = None
    speed: str | None = None
    ttft_us: int | None = None
    flags: tuple[str, ...] = ()
    charge: str = "usage"
    side: tuple[SideUsage, ...] = ()
    billed_model: str | None = None
    region: str | None = None
    said: object = None
    retryable: bool = False
    retry_after_us: int | None = None
    stated_nusd: int | None = None
    asked: tuple[ToolAsk, ...] = ()
