"""The budgets that a run has for itself: those it is given, those of the configuration, else the safe default."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from bursar.guards.budget import Budget, Unlimited
from bursar.settings.limits import limits_of_run
from bursar.words.errors import BursarWarning
from bursar.words.money import usd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bursar.runs.process import Process
    from bursar.words.records import Who

_said: set[str] = set()


class Budgets(NamedTuple):
    """`default`: nobody gave it one."""

    specs: list[Budget]
    of_file: list[Budget]
    default: bool


def budgets_of(who: Who, guards: Sequence[object], owner: Process, *, alone: bool) -> Budgets:
    """The budgets of a run for `who` that is given these guards; `alone`: no limit around it holds for it."""
    specs, of_file = [spec for spec in guards if isinstance(spec, Budget)], _of_file(who, owner)
    unlimited = any(isinstance(spec, Unlimited) for spec in guards)
    if unlimited or specs or of_file or not alone:
        return Budgets(specs, of_file, default=False)
    return Budgets([_default(who, owner)], [], default=True)


def _of_file(who: Who, owner: Process) -> list[Budget]:
    settings = owner.settings
    declared = settings.workflows.get(who.tags.workflow, {}).get("usd_per_run")
    found = [] if declared is None else [Budget(usd=declared)]
    for spec in limits_of_run(settings.run_limits, who):
        limits: dict[str, Any] = {unit: usd(limit) if unit == "usd" else limit for unit, limit in spec.limits}
        found.append(Budget(**limits, over=spec.over.kind))
    return found


def _default(who: Who, owner: Process) -> Budget:
    settings = owner.settings
    if "default" not in _said:
        _said.add("default")
        warnings.warn(
            f"run {who.tags.workflow!r} has no budget: it gets the default, ${settings.default_usd} and "
            f"{settings.default_model_calls} model calls. Give it one, as in bursar.run({who.tags.workflow!r}, "
            "Budget(usd='0.50')), or Budget.unlimited().",
            BursarWarning,
            stacklevel=6,
        )
    return Budget(usd=settings.default_usd, model_calls=settings.default_model_calls)
