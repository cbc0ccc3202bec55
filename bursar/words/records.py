"""The rows of the ledger: one a model attempt, one a tool call, one a verdict, one a run.

Units: `_us` is microseconds (`ts_us` since the epoch, UTC), `_nusd` nano-dollars. None means "not known", zero
means "known to be zero".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from bursar.words.events import Amounts, AttemptSource, CostStatus, RetryReason, Status, Usage, UsageSource

UNATTRIBUTED = "unattributed"
"""The workflow of calls that nobody named one for: a bucket of its own, shown, never dropped."""


class Tags(NamedTuple):
    """Who a call is for. Few distinct values: they share rows of the dimension table."""

    workflow: str = UNATTRIBUTED
    env: str | None = None
    feature: str | None = None
    owner: str | None = None
    tenant: str | None = None
    promise: str | None = None
    release: str | None = None
    prompt_version: str | None = None
    extra: tuple[tuple[str, str], ...] = ()


class Who(NamedTuple):
    """Who a call is for, in full: its tags and the two that have many values."""

    tags: Tags = Tags()
    user: str | None = None
    session: str | None = None


class Beside(NamedTuple):
    """What an attempt caused beside its own answer (see `SideUsage`), and what that cost; None where unknown."""

    kind: str
    model: str | None
    usage: Usage
    nusd: int | None


@dataclass(slots=True)
class ModelCall:
    """One attempt at a model call: what left, what came back, what it cost and how sure that is.

    `usage` and the costs are all that is billed; `side_usage` says which part of it is not the answer itself.
    `attempt_source` says who sent it again, None for what was new. `fallback_from` is the model that had failed before
    the caller turned to this one. `backoff_us` is the time from the end of the attempt that it follows until it asked
    to be sent: neither the provider's time nor our queue's (`queue_us`). `trimmed_tokens` of the conversation
    were left out by the context window. `system_hash` and `tools_hash` are of what the request says with every call,
    None where it says nothing of the kind.
    """

    call_id: str
    op_id: str
    attempt: int
    ts_us: int
    who: Who
    provider: str
    request_model: str
    path: str
    run_id: str | None = None
    step: int = 0
    operation: str = "chat"
    response_model: str | None = None
    host: str | None = None
    tier_requested: str | None = None
    tier_served: str | None = None
    speed: str | None = None
    latency_us: int = 0
    ttft_us: int | None = None
    queue_us: int = 0
    response_id: str | None = None
    request_id: str | None = None
    status: Status = Status.OK
    error_type: str | None = None
    http_status: int | None = None
    finish_reason: str | None = None
    retry_reason: RetryReason | None = None
    usage: Usage = field(default_factory=Usage)
    usage_source: UsageSource = UsageSource.NONE
    tool_calls: int = 0
    messages: int = 0
    tools_offered: int = 0
    max_tokens: int | None = None
    sent_max_tokens: int | None = None
    est_input_tokens: int | None = None
    held_nusd: int | None = None
    held_tokens: int | None = None
    bound: str | None = None
    flags: tuple[str, ...] = ()
    cost_nusd: int | None = None
    cost_status: CostStatus = CostStatus.UNKNOWN
    cost_input_nusd: int = 0
    cost_output_nusd: int = 0
    cost_cache_read_nusd: int = 0
    cost_cache_write_nusd: int = 0
    cost_fees_nusd: int = 0
    price_version: str | None = None
    region: str | None = None
    side_usage: tuple[Beside, ...] = ()
    attempt_source: AttemptSource | None = None
    fallback_from: str | None = None
    backoff_us: int | None = None
    trimmed_tokens: int = 0
    system_hash: str | None = None
    tools_hash: str | None = None


@dataclass(slots=True)
class ToolCall:
    """One call of a tool: who asked for it, how it ended, what it cost, whether it was made before.

    args_hash, result_hash: keyed (`words/canonical.py`); `result_bytes` as `size_of` there has them.
    repeat_index: calls of the run before it with the same name and arguments; same_result: whether it returned what the
    last of those had. requested_by: the `call_id` of the model call. fee_status: "declared", "upper_bound" (it failed,
    or may not have been made), "unknown" (nobody said what it costs; the fee is None).
    """

    call_id: str
    op_id: str
    ts_us: int
    who: Who
    tool_name: str
    run_id: str | None = None
    step: int = 0
    tool_type: str = "function"
    tool_call_id: str | None = None
    requested_by: str | None = None
    args_hash: str | None = None
    result_bytes: int | None = None
    result_hash: str | None = None
    repeat_index: int | None = None
    same_result: bool | None = None
    effect: str | None = None
    status: Status = Status.OK
    error_type: str | None = None
    latency_us: int = 0
    queue_us: int = 0
    fee_nusd: int | None = None
    fee_status: str = "unknown"
    flags: tuple[str, ...] = ()


@dataclass(slots=True)
class Verdict:
    """What a guard said to a call, when it was not a plain yes.

    Of a loop: `streak` is how often in a row, `onset` which tool call of the conversation was the first wasted one, and
    `tokens` and `nusd` what the run has spent since; `scope` is the tool. Of a cut of the window: `tokens` are no
    longer sent, `nusd` is what the rewrite of the rest costs, and after `pays_after` further steps it has paid for
    itself: 0 at once, None never or where no price is known.
    """

    ts_us: int
    run_id: str | None
    op_id: str
    guard: str
    action: str
    reason: str
    scope: str | None = None
    unit: str | None = None
    limit: int | None = None
    settled: int | None = None
    held: int | None = None
    needed: int | None = None
    acted: bool = True
    streak: int | None = None
    onset: int | None = None
    tokens: int | None = None
    nusd: int | None = None
    pays_after: int | None = None


@dataclass(slots=True)
class RunRecord:
    """One agent loop: written when it opens, written again when it ends.

    trace_id, span_id: the OpenTelemetry span that it was opened in, in hexadecimal digits; None where there was none.
    """

    run_id: str
    parent_run_id: str | None
    who: Who
    started_us: int
    ended_us: int | None = None
    stop_reason: str | None = None
    steps: int = 0
    tool_calls: int = 0
    tokens: int = 0
    cost_nusd: int = 0
    unpriced: int = 0
    unmeasured_nusd: int = 0
    limits: tuple[tuple[str, int], ...] = ()
    trace_id: str | None = None
    span_id: str | None = None


@dataclass(slots=True)
class Outcome:
    """Something that a run brought about, as its program says: a ticket resolved, so many documents written."""

    outcome_id: str
    run_id: str | None
    who: Who
    ts_us: int
    name: str
    count: int = 1


class Item(NamedTuple):
    """One request of a batch (`name` is its custom id), or a background response (`name` is empty).

    call_id: of its row. bound: what it was charged until its result is read.
    """

    name: str
    call_id: str
    model: str
    bound: Amounts


@dataclass(slots=True)
class Order:
    """A batch or a background response: charged at its bound when it is made, corrected as its results are read.

    ref: the provider's name and id of it. call_id: of the row that stands for what was not read yet; None for what
    nobody ordered through us. path: the shared scopes that it is charged on. tier: whose prices apply. items: None
    where its requests are not known.
    """

    ref: str
    kind: str
    provider: str
    host: str | None
    call_id: str | None
    who: Who
    run_id: str | None
    step: int
    ts_us: int
    tier: str | None
    region: str | None = None
    path: tuple[tuple[str, str, str], ...] = ()
    items: tuple[Item, ...] | None = None


class Result(NamedTuple):
    """The result of one item: its row, and the amounts that it is charged in place of its bound.

    mark: the provider's own id of it, the same wherever it is read.
    """

    name: str
    mark: str | None
    call: ModelCall
    actual: Amounts
    measured: bool


Record = ModelCall | ToolCall | Verdict | RunRecord | Outcome
