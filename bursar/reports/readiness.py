"""Whether a workflow is fit for production: what its file says, held against what the ledger has seen.

A check fails where money can be lost without anybody noticing or stopping it; it warns where something is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.words.money import parse_usd, show_usd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bursar.words.rows import Facts

OK, WARN, FAIL = "ok", "warn", "fail"
_TIGHT: Final = 0.8
"""Of a budget: a p95 above that will be refused on an ordinary bad day."""
_MUCH: Final = 0.05
_SOME: Final = 0.01
_NAMED: Final = 4
_GATE: Final = 'bursar.toml: [[gate]] effect = "write" and ask = "always"; @bursar.tool(effect="read") where nothing is'


class Check(NamedTuple):
    """One line of the list: how it stands, what was found, and what mends it (empty where nothing has to be)."""

    name: str
    state: str
    found: str
    mend: str = ""


class Declared(NamedTuple):
    """What `bursar.toml` says. limits: the shared ones that apply to it. eval_found: whether the file is there.

    gates: how many the file has.
    """

    table: Mapping[str, Any]
    limits: tuple[str, ...]
    eval_found: bool
    gates: int = 0


def checks(workflow: str, declared: Declared, facts: Facts) -> list[Check]:
    """All checks, in the order in which a person would go through them."""
    table, key = declared.table, f"bursar.toml: [workflow.{workflow}]"
    return [
        _named("owner", table.get("owner") or ", ".join(facts.owners), FAIL, f'{key} owner = "team"'),
        _named("on call", table.get("oncall"), WARN, f'{key} oncall = "team-oncall"'),
        _budget(table.get("usd_per_run"), facts, key),
        *_outcome(table.get("usd_per_outcome"), facts),
        _named("shared limit", ", ".join(declared.limits), FAIL, f'{key} usd_per_day = "20"'),
        _retries(table.get("retries"), facts, key),
        _models(table.get("models"), facts, key),
        _share("unpriced", facts.unpriced, facts.calls, (0.0, 0.0), "calls have no price", "bursar prices unpriced"),
        _share(
            "unmeasured", facts.unmeasured, facts.calls, (_SOME, _MUCH), "calls were charged at a bound",
            "why they fail or are cut: bursar report --by model",
        ),
        _share(
            "unattributed", facts.unattributed, facts.everything, (_SOME, _MUCH),
            "calls of this ledger name no workflow", 'bursar.toml: [bursar] require = ["workflow"]',
        ),
        _gate(declared.gates, facts),
        _loop_guard(facts),
        _share("loops", facts.looped, facts.runs, (0.0, _MUCH), "runs went in circles", "bursar explain; LoopGuard()"),
        _versions(facts),
        _eval(table.get("eval"), declared, key),
    ]  # fmt: skip


def verdict(found: Sequence[Check]) -> str:
    """The worst state among checks."""
    return max((check.state for check in found), key=(OK, WARN, FAIL).index, default=OK)


def p95(values: Sequence[int]) -> int | None:
    """The value at place ceil(0.95 n), counted from one; None of none."""
    return sorted(values)[-(-len(values) * 19 // 20) - 1] if values else None


def _named(name: str, value: Any, missing: str, mend: str) -> Check:
    return Check(name, OK, str(value)) if value else Check(name, missing, "none", mend)


def _budget(limit: Any, facts: Facts, key: str) -> Check:
    cost = p95(facts.run_nusd)
    seen = f"p95 of {len(facts.run_nusd):,} runs {show_usd(cost)}" if cost is not None else "no run with a price yet"
    if limit is None:
        shown = f'{key} usd_per_run = "0.50"'
        return Check("budget of a run", FAIL, f"none ({seen})", shown)
    found = f"{show_usd(parse_usd(limit, 'usd_per_run'))}, {seen}"
    if facts.runs and facts.overspent / facts.runs > _SOME:
        return Check(
            "budget of a run", FAIL, f"{found}; {facts.overspent:,} of {facts.runs:,} runs ran into it",
            "raise it, or find what grew: bursar explain",
        )  # fmt: skip
    if cost is None:
        return Check("budget of a run", WARN, found, "run it in staging, then look again")
    if cost > _TIGHT * parse_usd(limit, "usd_per_run"):
        return Check("budget of a run", WARN, found, "too tight for a bad day: raise it, or make runs cheaper")
    return Check("budget of a run", OK, found)


def _outcome(limit: Any, facts: Facts) -> list[Check]:
    if limit is None:
        return []
    most, cost = parse_usd(limit, "usd_per_outcome"), dict(facts.measured).get("usd_per_outcome")
    if cost is None:
        found = f"{show_usd(most)}, and none in seven days"
        return [Check("cost of an outcome", WARN, found, 'run.outcome("ticket_resolved") where one is reached')]
    found = f"{show_usd(most)}, seen {show_usd(cost)} in seven days, runs that failed included"
    return [Check("cost of an outcome", *((OK, found) if cost <= most else (FAIL, found, "what grew: bursar explain")))]


def _retries(cap: Any, facts: Facts, key: str) -> Check:
    share = f"{facts.retries:,} of {facts.calls:,} sends were sent again"
    if not cap or "attempts" not in cap:
        return Check("retry cap", FAIL, f"none ({share})", f"{key} retries = {{ attempts = 3 }}")
    return Check("retry cap", OK, f"{cap['attempts']} attempts ({share})")


def _gate(declared: int, facts: Facts) -> Check:
    if declared:
        return Check("gate", OK, f"{declared:,} in bursar.toml, {facts.gated:,} times at work")
    if facts.gated:
        return Check("gate", OK, f"{facts.gated:,} times at work")
    if not facts.ungated:
        return Check("gate", OK, "none, and no tool seen that may change anything")
    some = ", ".join(facts.ungated[:_NAMED]) + (", ..." if len(facts.ungated) > _NAMED else "")
    # One in the code that has had no reason to ask is in no ledger.
    return Check("gate", WARN, f"none seen at work; may change something: {some}", _GATE)


def _loop_guard(facts: Facts) -> Check:
    if facts.circled:
        found = f"{facts.circled:,} of {facts.runs:,} runs repeated a call with the same result, and nobody spoke"
        return Check("loop guard", FAIL, found, "bursar.run(..., LoopGuard())")
    if facts.looped:
        return Check("loop guard", OK, f"spoke in {facts.looped:,} of {facts.runs:,} runs")
    return Check("loop guard", OK, "no run has gone in circles without one; one that has never spoken is not seen")


def _models(declared: Any, facts: Facts, key: str) -> Check:
    seen = ", ".join(facts.models) or "none seen"
    if not declared:
        names = ", ".join(f'"{model}"' for model in facts.models)
        return Check("declared models", WARN, f"none declared; {seen}", f"{key} models = [{names}]")
    # A model is declared by its family: answers name its version.
    strange = [model for model in facts.models if not any(f"{model}-".startswith(f"{name}-") for name in declared)]
    if strange:
        return Check(
            "declared models", FAIL, f"seen and not declared: {', '.join(strange)}", "declare, or find out why"
        )
    return Check("declared models", OK, seen)


def _share(name: str, part: int, whole: int, most: tuple[float, float], what: str, mend: str) -> Check:
    if not whole:
        return Check(name, WARN, "nothing seen yet", "run it in staging, then look again")
    found = f"{part:,} of {whole:,} {what}"
    warn, fail = most
    if part / whole > fail:
        return Check(name, FAIL, found, mend)
    return Check(name, WARN, found, mend) if part / whole > warn else Check(name, OK, found)


def _versions(facts: Facts) -> Check:
    mend = 'bursar.run(..., prompt_version="v3")'
    if not facts.calls:
        return Check("prompt version", WARN, "nothing seen yet", mend)
    if facts.unversioned == facts.calls:
        return Check("prompt version", FAIL, "no call names one", mend)
    found = f"{facts.unversioned:,} of {facts.calls:,} calls name none"
    return Check("prompt version", WARN if facts.unversioned else OK, found, mend if facts.unversioned else "")


def _eval(path: Any, declared: Declared, key: str) -> Check:
    if not path:
        return Check("frozen eval", WARN, "none", f'{key} eval = "evals/set.jsonl"')
    if not declared.eval_found:
        return Check("frozen eval", FAIL, f"{path} is not there", "the path is from the folder of bursar.toml")
    return Check("frozen eval", OK, str(path))
