"""The line that would stop a cause of spend from growing further."""

from __future__ import annotations

import json
from decimal import ROUND_CEILING, Decimal
from math import ceil
from typing import TYPE_CHECKING, Final

from bursar.reports.changes import CACHE, CALLS, FEES, GONE, INPUT, MIX, OUTPUT, PRICE, RETRIES
from bursar.words.money import usd

if TYPE_CHECKING:
    from bursar.reports.changes import Cause

ROOM: Final = 2
"""How much above what was normal before a limit is put: what is ordinary should not be refused."""

_HABITS: Final = {
    CALLS: "bursar.run({workflow}, Budget(model_calls={most}))",
    INPUT: "bursar.budget(input_tokens={most}) round a call; begin sessions anew",
    OUTPUT: "max_tokens={most} in the request",
    RETRIES: "max_retries=1 on the client, and why calls fail: bursar report --by model",
    CACHE: "keep the beginning of the prompt the same from call to call: what changes goes to its end",
    MIX: "the cheaper model where it will do: bursar report --by model",
    PRICE: "what it costs now, and another model beside it: bursar prices MODEL",
    FEES: "max_uses on the search tool of the request",
}
"""What is done about a cause in the program; about every other one a limit in the file is what helps."""


def remedy(cause: Cause, day_nusd: int) -> str | None:
    """What to write where, None for a cause that saved money; `day_nusd` is what the workflow cost on a day before."""
    if cause.nusd <= 0 or cause.factor == GONE:
        return None
    most = max(1, ceil(ROOM * (cause.before or 0.0)))
    if cause.factor in _HABITS:
        return _HABITS[cause.factor].format(workflow=_text(cause.workflow), most=most)
    cents = (ROOM * usd(day_nusd)).quantize(Decimal("0.01"), ROUND_CEILING)
    return f'bursar.toml: [workflow.{_key(cause.workflow)}] usd_per_day = "{max(cents, Decimal("0.01"))}"'


def _text(workflow: str) -> str:
    return json.dumps(workflow, ensure_ascii=False)


def _key(workflow: str) -> str:
    return workflow if workflow.replace("-", "").replace("_", "").isalnum() and workflow.isascii() else _text(workflow)
