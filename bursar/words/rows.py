"""What the ledger answers: small rows that reports are made of.

Units as in `words/records.py`: `_us` microseconds, `_nusd` nano-dollars, None for what is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from bursar.words.events import Usage


class SpendRow(NamedTuple):
    """What one value of a tag spent in a period. `requests` counts operations, `attempts` sends.

    `retries` counts what was sent again, by the SDK or by the caller; `resent_tokens` the input of it, estimated where
    the provider counted none. `trimmed_tokens` were left out of requests by a context window. Percentiles are of
    attempts that ended well: of their latency, but for batches and background responses, and of their input tokens.
    `batch` counts attempts that were items of batches. The last four count attempts by how sure their cost is: at list
    price, at a bound, of estimated tokens, as the provider said; those of no price are `unpriced`. A row that was
    imported and stands for many calls counts as so many, in these as in `attempts`.
    """

    key: str
    requests: int
    attempts: int
    errors: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    tool_calls: int
    retries: int
    retry_reason: str | None
    p50_us: int | None
    p95_us: int | None
    nusd: int
    unpriced: int
    unmeasured: int
    clamped: int
    resent_tokens: int
    trimmed_tokens: int = 0
    batch: int = 0
    p50_input: int | None = None
    p95_input: int | None = None
    list_priced: int = 0
    bounded: int = 0
    estimated: int = 0
    provider_priced: int = 0


class CallRow(NamedTuple):
    """One attempt in the trace of a run."""

    call_id: str
    run_id: str | None
    step: int
    request_model: str
    response_model: str | None
    path: str
    status: str
    error_type: str | None
    http_status: int | None
    finish_reason: str | None
    retry_reason: str | None
    usage_source: str
    flags: tuple[str, ...]
    bound: str | None
    ts_us: int
    latency_us: int
    ttft_us: int | None
    queue_us: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    tool_calls: int
    max_tokens: int | None
    sent_max_tokens: int | None
    held_nusd: int | None
    nusd: int | None
    cost_status: str
    response_id: str | None
    request_id: str | None
    price_version: str | None = None
    region: str | None = None
    web_searches: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    side_usage: tuple[dict[str, Any], ...] = ()
    attempt_source: str | None = None
    fallback_from: str | None = None
    backoff_us: int | None = None


class UnpricedRow(NamedTuple):
    """A model that was called and has no price."""

    provider: str | None
    request_model: str | None
    response_model: str | None
    calls: int
    input_tokens: int
    output_tokens: int
    last_us: int


class ToolRow(NamedTuple):
    """One call of a tool in the trace of a run; the fields are those of `_records.ToolCall`."""

    call_id: str
    run_id: str | None
    step: int
    ts_us: int
    latency_us: int
    queue_us: int
    tool_name: str
    tool_type: str
    tool_call_id: str | None
    requested_by: str | None
    args_hash: str | None
    result_bytes: int | None
    result_hash: str | None
    repeat_index: int | None
    same_result: bool | None
    effect: str | None
    status: str
    error_type: str | None
    nusd: int | None
    fee_status: str
    flags: tuple[str, ...]


class VerdictRow(NamedTuple):
    """What a guard said to an operation of a run; the last five are of loops and cuts, see `Verdict`."""

    op_id: str
    run_id: str | None
    ts_us: int
    guard: str
    action: str
    reason: str
    scope: str | None
    unit: str | None
    limit: int | None
    settled: int | None
    held: int | None
    needed: int | None
    acted: bool
    streak: int | None = None
    onset: int | None = None
    tokens: int | None = None
    nusd: int | None = None
    pays_after: int | None = None


class RunRow(NamedTuple):
    """A run as it was last written down."""

    run_id: str
    parent_run_id: str | None
    workflow: str
    user: str | None
    started_us: int
    ended_us: int | None
    stop_reason: str | None
    steps: int
    tool_calls: int
    tokens: int
    nusd: int
    unpriced: int
    unmeasured_nusd: int
    limits: tuple[tuple[str, int], ...]


class MixRow(NamedTuple):
    """What one workflow did with one model in a period. `users` and `runs` are those of the workflow, over all models.

    `operations` counts what was asked for, `attempts` what was sent; `input_tokens` includes cached ones; the parts of
    the cost are in nano-dollars, and attempts without a price are in `unpriced` and in none of them. `uncounted` rows
    are sums of nobody knows how many calls, and stand for one each.
    """

    workflow: str
    model: str
    users: int
    runs: int
    operations: int
    attempts: int
    unpriced: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    input_nusd: int
    cache_read_nusd: int
    cache_write_nusd: int
    output_nusd: int
    fees_nusd: int
    uncounted: int = 0


class Setup(NamedTuple):
    """What a workflow said with every call of a period: hashes of its system prompt and tools, and their versions.

    None is none, or not known. `first_calls` are those that began a run, or were in none; `first_tokens` the input of
    them all.
    """

    workflow: str
    system_hash: str | None
    tools_hash: str | None
    prompt_version: str | None
    release: str | None
    calls: int
    first_us: int
    last_us: int
    first_calls: int
    first_tokens: int


class DaySpend(NamedTuple):
    """Nano-dollars of one day: until the time of day that it is now, and after it."""

    until_now_nusd: int
    rest_nusd: int


class Nameless(NamedTuple):
    """Calls without a workflow, and what they cost in nano-dollars."""

    calls: int
    nusd: int


class Unpriced(NamedTuple):
    """Calls of one model whose price is unknown."""

    model: str
    calls: int


class Overview(NamedTuple):
    """What the ledger says of a day so far. `before` are the days before it, the latest first."""

    calls: int
    nusd: int
    before: tuple[DaySpend, ...]
    unattributed: Nameless
    unpriced: tuple[Unpriced, ...]


class DayTokens(NamedTuple):
    """Input and output tokens of one feature on one day (YYYY-MM-DD, UTC)."""

    day: str
    feature: str
    tokens: int


class SessionCost(NamedTuple):
    """What one session cost, in nano-dollars, and its operations."""

    session: str
    nusd: int
    calls: int


class Turn(NamedTuple):
    """One call of a session: its tokens, and nano-dollars (`nusd` None: unknown)."""

    ts_us: int
    input_tokens: int
    cache_read_tokens: int
    output_tokens: int
    input_nusd: int
    nusd: int | None


class Facts(NamedTuple):
    """What was seen of a workflow in a period. Attempts where nothing else is said; costs in nano-dollars.

    run_nusd: of each run that has ended and has a price. looped: runs in which a loop was spoken to; circled: in which
    a tool gave the same result to the same call four times and nobody spoke. gated: what gates asked or refused.
    ungated: tools that may change something, or of which nobody says what they do.
    unattributed, everything: of the whole ledger in that time. measured: means of the last seven days.
    """

    calls: int
    unpriced: int
    unmeasured: int
    unversioned: int
    retries: int
    models: tuple[str, ...]
    owners: tuple[str, ...]
    runs: int
    run_nusd: tuple[int, ...]
    looped: int
    overspent: int
    unattributed: int
    everything: int
    measured: tuple[tuple[str, int], ...]
    circled: int = 0
    gated: int = 0
    ungated: tuple[str, ...] = ()


class Used(NamedTuple):
    """What one attempt used, and under which of its model's prices; `calls` is more than 1 where it is a sum."""

    workflow: str
    provider: str
    model: str
    tier: str | None
    speed: str | None
    region: str | None
    promise: str | None
    calls: int
    nusd: int | None
    usage: Usage
