"""Records as events: a name and flat, plain fields, for the trace log and for structlog.

Names and units are those of the ledger's columns; None is "not known". The user is his keyed hash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bursar.tracing.values import LONGEST, clean
from bursar.words.records import ModelCall, Outcome, RunRecord, ToolCall

if TYPE_CHECKING:
    from bursar.words.records import Record, Tags, Verdict

MODEL_CALL: Final = "bursar.model_call"
TOOL_CALL: Final = "bursar.tool_call"
VERDICT: Final = "bursar.verdict"
RUN: Final = "bursar.run"
OUTCOME: Final = "bursar.outcome"


def event_of(record: Record, user_hash: str | None) -> tuple[str, dict[str, Any]]:
    """Flatten a record, whose user has this hash."""
    if isinstance(record, ModelCall):
        return MODEL_CALL, _call(record, user_hash)
    if isinstance(record, ToolCall):
        return TOOL_CALL, _tool(record, user_hash)
    if isinstance(record, RunRecord):
        return RUN, _run(record, user_hash)
    if isinstance(record, Outcome):
        return OUTCOME, _outcome(record, user_hash)
    return VERDICT, _verdict(record)


def side_usage(call: ModelCall) -> list[dict[str, Any]]:
    """What a call caused beside its answer: kind, model, cost, and the counts that are not zero."""
    return [
        {
            "kind": clean(beside.kind, LONGEST),
            "model": None if beside.model is None else clean(beside.model, LONGEST),
            "nusd": beside.nusd,
            **{name: count for name, count in beside.usage._asdict().items() if count},
        }
        for beside in call.side_usage
    ]


def _call(call: ModelCall, user_hash: str | None) -> dict[str, Any]:
    usage = call.usage
    return {
        "call_id": call.call_id,
        "op_id": call.op_id,
        "attempt": call.attempt,
        "run_id": call.run_id,
        "step": call.step,
        "ts_us": call.ts_us,
        **_tags(call.who.tags),
        "user_hash": user_hash,
        "session_id": call.who.session,
        "operation": call.operation,
        "provider": call.provider,
        "request_model": call.request_model,
        "response_model": call.response_model,
        "host": call.host,
        "path": call.path,
        "tier_requested": call.tier_requested,
        "tier_served": call.tier_served,
        "speed": call.speed,
        "region": call.region,
        "status": call.status.value,
        "error_type": call.error_type,
        "http_status": call.http_status,
        "finish_reason": call.finish_reason,
        "retry_reason": None if call.retry_reason is None else call.retry_reason.value,
        "attempt_source": None if call.attempt_source is None else call.attempt_source.value,
        "fallback_from": call.fallback_from,
        "backoff_us": call.backoff_us,
        "trimmed_tokens": call.trimmed_tokens,
        "response_id": call.response_id,
        "request_id": call.request_id,
        "latency_us": call.latency_us,
        "ttft_us": call.ttft_us,
        "queue_us": call.queue_us,
        "usage_source": call.usage_source.value,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_5m_tokens": usage.cache_write_5m_tokens,
        "cache_write_30m_tokens": usage.cache_write_30m_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "cache_write_12h_tokens": usage.cache_write_12h_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "web_searches": usage.web_searches,
        "web_fetches": usage.web_fetches,
        "file_searches": usage.file_searches,
        "code_executions": usage.code_executions,
        "image_generations": usage.image_generations,
        "audio_input_tokens": usage.audio_input_tokens,
        "audio_output_tokens": usage.audio_output_tokens,
        "side_usage": side_usage(call),
        "tool_calls": call.tool_calls,
        "messages": call.messages,
        "tools_offered": call.tools_offered,
        "max_tokens": call.max_tokens,
        "sent_max_tokens": call.sent_max_tokens,
        "est_input_tokens": call.est_input_tokens,
        "held_nusd": call.held_nusd,
        "held_tokens": call.held_tokens,
        "bound": call.bound,
        "flags": call.flags,
        "cost_nusd": call.cost_nusd,
        "cost_status": call.cost_status.value,
        "cost_input_nusd": call.cost_input_nusd,
        "cost_output_nusd": call.cost_output_nusd,
        "cost_cache_read_nusd": call.cost_cache_read_nusd,
        "cost_cache_write_nusd": call.cost_cache_write_nusd,
        "cost_fees_nusd": call.cost_fees_nusd,
        "price_version": call.price_version,
        "system_hash": call.system_hash,
        "tools_hash": call.tools_hash,
    }


def _tool(call: ToolCall, user_hash: str | None) -> dict[str, Any]:
    return {
        "call_id": call.call_id,
        "op_id": call.op_id,
        "run_id": call.run_id,
        "step": call.step,
        "ts_us": call.ts_us,
        **_tags(call.who.tags),
        "user_hash": user_hash,
        "session_id": call.who.session,
        "tool_name": call.tool_name,
        "tool_type": call.tool_type,
        "tool_call_id": call.tool_call_id,
        "requested_by": call.requested_by,
        "args_hash": call.args_hash,
        "result_bytes": call.result_bytes,
        "result_hash": call.result_hash,
        "repeat_index": call.repeat_index,
        "same_result": call.same_result,
        "effect": call.effect,
        "status": call.status.value,
        "error_type": call.error_type,
        "latency_us": call.latency_us,
        "queue_us": call.queue_us,
        "fee_nusd": call.fee_nusd,
        "fee_status": call.fee_status,
        "flags": call.flags,
    }


def _run(run: RunRecord, user_hash: str | None) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "parent_run_id": run.parent_run_id,
        **_tags(run.who.tags),
        "user_hash": user_hash,
        "session_id": run.who.session,
        "started_us": run.started_us,
        "ended_us": run.ended_us,
        "stop_reason": run.stop_reason,
        "steps": run.steps,
        "tool_calls": run.tool_calls,
        "tokens": run.tokens,
        "cost_nusd": run.cost_nusd,
        "unpriced": run.unpriced,
        "unmeasured_nusd": run.unmeasured_nusd,
        "limits": dict(run.limits),
        "trace_id": run.trace_id,
        "span_id": run.span_id,
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "op_id": verdict.op_id,
        "run_id": verdict.run_id,
        "ts_us": verdict.ts_us,
        "guard": verdict.guard,
        "action": verdict.action,
        "reason": verdict.reason,
        "scope": verdict.scope,
        "unit": verdict.unit,
        "limit": verdict.limit,
        "settled": verdict.settled,
        "held": verdict.held,
        "needed": verdict.needed,
        "acted": verdict.acted,
        "streak": verdict.streak,
        "onset": verdict.onset,
        "tokens": verdict.tokens,
        "nusd": verdict.nusd,
        "pays_after": verdict.pays_after,
    }


def _outcome(outcome: Outcome, user_hash: str | None) -> dict[str, Any]:
    return {
        "outcome_id": outcome.outcome_id,
        "run_id": outcome.run_id,
        "ts_us": outcome.ts_us,
        **_tags(outcome.who.tags),
        "user_hash": user_hash,
        "session_id": outcome.who.session,
        "name": outcome.name,
        "count": outcome.count,
    }


def _tags(tags: Tags) -> dict[str, Any]:
    named: dict[str, Any] = tags._asdict()
    named["extra"] = dict(tags.extra)
    return named
