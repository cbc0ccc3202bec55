"""Rows of the ledger that approvals are kept in, and the columns that they are read by."""

from __future__ import annotations

from typing import Final, NamedTuple

ROW: Final = (
    "id, made_us, until_us, state, kind, name, workflow, run_id, op_id, binding, place, skip, arguments, whole, "
    "likely_nusd, bound_nusd, ceiling_nusd, sure, spent_nusd, left_nusd, rules, why, asking, decided_us, used_us, "
    "by_whom, via, reason, scope, edited, grant_id, limit_scope, short_nusd, raise_nusd, asker"
)
GRANT: Final = (
    "id, approval, made_us, kind, name, scope, run_id, workflow, rules, each_nusd, up_to_nusd, used_nusd, uses, "
    "until_us, by_whom, why, revoked_us, revoked_by"
)


class Row(NamedTuple):
    """A question as the ledger has it; see the schema."""

    id: str
    made_us: int
    until_us: int | None
    state: str
    kind: str
    name: str
    workflow: str
    run_id: str | None
    op_id: str
    binding: str
    place: str | None
    skip: int
    arguments: str | None
    whole: int
    likely_nusd: int | None
    bound_nusd: int | None
    ceiling_nusd: int | None
    sure: str | None
    spent_nusd: int | None
    left_nusd: int | None
    rules: str
    why: str
    asking: str | None
    decided_us: int | None
    used_us: int | None
    by_whom: str | None
    via: str | None
    reason: str | None
    scope: str | None
    edited: str | None
    grant_id: str | None
    limit_scope: str | None
    short_nusd: int | None
    raise_nusd: int | None
    asker: str | None


class GrantRow(NamedTuple):
    """A yes that lasts, as the ledger has it; see the schema."""

    id: str
    approval: str
    made_us: int
    kind: str
    name: str
    scope: str
    run_id: str | None
    workflow: str
    rules: str
    each_nusd: int | None
    up_to_nusd: int | None
    used_nusd: int
    uses: int
    until_us: int | None
    by_whom: str | None
    why: str | None
    revoked_us: int | None
    revoked_by: str | None
