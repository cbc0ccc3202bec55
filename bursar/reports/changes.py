"""Why spend changed: the difference between two periods split exactly into causes.

A cost is a product: users x runs of a user x calls of a run x attempts of a call x the share of a model x tokens of an
attempt x the share of cached tokens among them x the price of a token. The difference of two such products is split by
the logarithmic mean Divisia index (B. W. Ang, "The LMDI approach to decomposition analysis", Energy Policy 33, 2005,
additive form I): with c0 and c1 the cost of one cell before and after, and L = (c1 - c0) / ln(c1 / c0), a factor that
went from f0 to f1 has caused L x ln(f1 / f0). It leaves no residue and adds up over cells. What was nothing before or
is nothing now belongs to the factor that came or went.

Cells are (workflow, model, kind of token). Workflows that are new or gone are causes by themselves.
"""

from __future__ import annotations

from collections import defaultdict
from math import exp, log
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bursar.words.rows import MixRow

USERS, RUNS, CALLS, MIX, RETRIES = "users", "runs per user", "calls per run", "model mix", "retries"
INPUT, OUTPUT, CACHE, PRICE, FEES = "input tokens per call", "output tokens per call", "cache", "price", "fees per call"
NEW, GONE = "new workflow", "gone workflow"
ALL_CALLS: Final = "calls"
"""What `CALLS` is called where nobody knows of runs: in an export of a provider, or outside of any run."""
UNCOUNTED: Final = {CALLS: "spans of the export", INPUT: "input tokens", OUTPUT: "output tokens", FEES: "fees"}
"""What factors are called where nobody knows of calls: in an export that has tokens alone."""
FACTORS: Final = (USERS, RUNS, CALLS, MIX, RETRIES, INPUT, OUTPUT, CACHE, PRICE, FEES)
_INPUT_KINDS: Final = ("uncached", "cache_read", "cache_write")
_KINDS: Final = (*_INPUT_KINDS, "output", "fees")


class Cause(NamedTuple):
    """One factor of one workflow: what it changed, in nano-dollars, and by how much it multiplied the workflow's cost.

    before, after: the factor's own mean value in the two periods; None for a share or a price of many.
    """

    workflow: str
    factor: str
    nusd: int
    times: float | None
    before: float | None = None
    after: float | None = None


class Explanation(NamedTuple):
    """All causes, the largest first; their `nusd` add up to `after_nusd - before_nusd` exactly."""

    before_nusd: int
    after_nusd: int
    causes: tuple[Cause, ...]


class _Totals(NamedTuple):
    """What one workflow did in one period, over all its models."""

    users: int
    runs: int
    operations: int
    attempts: int
    input_tokens: int
    output_tokens: int
    nusd: int


def explain(before: Sequence[MixRow], after: Sequence[MixRow]) -> Explanation:
    """Split the difference between two periods, each as rows of (workflow, model)."""
    causes: list[Cause] = []
    first, second = _by_workflow(before), _by_workflow(after)
    for workflow in sorted({*first, *second}):
        old, new = first.get(workflow, []), second.get(workflow, [])
        causes += _workflow(workflow, old, new)
    causes.sort(key=lambda cause: (-abs(cause.nusd), cause.workflow, cause.factor))
    return Explanation(cost_of(before), cost_of(after), tuple(causes))


def _by_workflow(rows: Iterable[MixRow]) -> Mapping[str, list[MixRow]]:
    found: dict[str, list[MixRow]] = defaultdict(list)
    for row in rows:
        found[row.workflow].append(row)
    return found


def _workflow(workflow: str, old: list[MixRow], new: list[MixRow]) -> list[Cause]:
    if not old or not new:
        nusd = cost_of(new) - cost_of(old)
        return [Cause(workflow, NEW if new else GONE, nusd, None)] if nusd else []
    before, after = _comparable(_totals(old), _totals(new))
    parts: dict[str, float] = defaultdict(float)
    first, second = {row.model: row for row in old}, {row.model: row for row in new}
    for model in sorted({*first, *second}):
        for kind in _KINDS:
            _cell(kind, first.get(model), second.get(model), before, after, parts)
    whole = _rounded(parts, after.nusd - before.nusd)
    mean = _log_mean(after.nusd, before.nusd)
    values = _values(before), _values(after)
    counted = not any(row.uncounted for row in (*old, *new))
    return [
        Cause(
            workflow,
            _named(factor, after, counted=counted),
            whole[factor],
            exp(parts[factor] / mean) if mean else None,
            values[0].get(factor) if counted else None,
            values[1].get(factor) if counted else None,
        )
        for factor in FACTORS
        if whole.get(factor)
    ]


def _named(factor: str, totals: _Totals, *, counted: bool) -> str:
    if not counted:
        return UNCOUNTED.get(factor, factor)
    return ALL_CALLS if factor == CALLS and not totals.runs else factor


def _comparable(before: _Totals, after: _Totals) -> tuple[_Totals, _Totals]:
    # Users or runs that are known in one period only say nothing about the difference.
    for name in ("users", "runs"):
        if not (getattr(before, name) and getattr(after, name)):
            before, after = before._replace(**{name: 0}), after._replace(**{name: 0})
    return before, after


def _cell(
    kind: str, old: MixRow | None, new: MixRow | None, before: _Totals, after: _Totals, parts: dict[str, float]
) -> None:
    cost0, cost1 = _cost(old, kind), _cost(new, kind)
    if cost0 == cost1 == 0:
        return
    factors0, factors1 = _factors(old, kind, before), _factors(new, kind, after)
    shared = [name for name in factors0 if name in factors1]
    if not cost0 or not cost1:
        # All of it belongs to the outermost factor that is zero on one side: the model, else the kind of token.
        came = next((name for name in shared if not (factors0[name] and factors1[name])), PRICE)
        parts[came] += cost1 - cost0
        return
    mean = _log_mean(cost1, cost0)
    told = 0.0
    for name in shared:
        if factors0[name] > 0 and factors1[name] > 0:
            part = mean * log(factors1[name] / factors0[name])
            parts[name] += part
            told += part
    # The price is what is left: of a product whose other factors are known.
    parts[FEES if kind == "fees" else PRICE] += (cost1 - cost0) - told


def _factors(row: MixRow | None, kind: str, totals: _Totals) -> dict[str, float]:
    """The factors of a cell from the outside in; the price of a token is left out: it is what remains."""
    if row is None:
        return {MIX: 0.0}
    found: dict[str, float] = {}
    around = 1
    for name, number in ((USERS, totals.users), (RUNS, totals.runs), (CALLS, totals.operations)):
        if number:
            found[name] = number / around
            around = number
    found[MIX] = row.operations / totals.operations if totals.operations else 0.0
    found[RETRIES] = row.attempts / row.operations if row.operations else 0.0
    if kind in _INPUT_KINDS:
        found[INPUT] = row.input_tokens / row.attempts if row.attempts else 0.0
        found[CACHE] = _tokens(row, kind) / row.input_tokens if row.input_tokens else 0.0
    elif kind == "output":
        found[OUTPUT] = row.output_tokens / row.attempts if row.attempts else 0.0
    return found


def _values(totals: _Totals) -> dict[str, float]:
    found: dict[str, float] = {}
    if totals.users:
        found[USERS] = totals.users
    if totals.runs:
        found[RUNS] = totals.runs / (totals.users or 1)
        found[CALLS] = totals.operations / totals.runs
    else:
        found[CALLS] = totals.operations
    if totals.operations:
        found[RETRIES] = totals.attempts / totals.operations - 1
    if totals.attempts:
        found[INPUT] = totals.input_tokens / totals.attempts
        found[OUTPUT] = totals.output_tokens / totals.attempts
    return found


def _totals(rows: Sequence[MixRow]) -> _Totals:
    return _Totals(
        # Distinct over all models of the workflow: the same in each of its rows.
        users=max(row.users for row in rows),
        runs=max(row.runs for row in rows),
        operations=sum(row.operations for row in rows),
        attempts=sum(row.attempts for row in rows),
        input_tokens=sum(row.input_tokens for row in rows),
        output_tokens=sum(row.output_tokens for row in rows),
        nusd=cost_of(rows),
    )


def _tokens(row: MixRow, kind: str) -> int:
    if kind == "cache_read":
        return row.cache_read_tokens
    if kind == "cache_write":
        return row.cache_write_tokens
    return max(0, row.input_tokens - row.cache_read_tokens - row.cache_write_tokens)


def _cost(row: MixRow | None, kind: str) -> int:
    if row is None:
        return 0
    return {
        "uncached": row.input_nusd,
        "cache_read": row.cache_read_nusd,
        "cache_write": row.cache_write_nusd,
        "output": row.output_nusd,
        "fees": row.fees_nusd,
    }[kind]


def cost_of(rows: Iterable[MixRow]) -> int:
    """What rows cost in all, in nano-dollars."""
    return sum(_cost(row, kind) for row in rows for kind in _KINDS)


def _log_mean(one: float, other: float) -> float:
    if one <= 0 or other <= 0:
        return 0.0
    return one if one == other else (one - other) / log(one / other)


def _rounded(parts: Mapping[str, float], total: int) -> dict[str, int]:
    whole = {name: round(part) for name, part in parts.items()}
    if whole:
        # Whole nano-dollars: what rounding leaves lies in the largest part.
        largest = max(whole, key=lambda name: (abs(whole[name]), name))
        whole[largest] += total - sum(whole.values())
    return whole
