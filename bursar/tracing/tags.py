"""What reports may group by, and parts of statements about attempts that several readers share."""

from __future__ import annotations

from typing import Final

BY: Final = {
    "workflow": "d.workflow",
    "model": "coalesce(d.response_model, d.request_model)",
    "user": "c.user_hash",
    "session": "c.session_id",
    "feature": "d.feature",
    "owner": "d.owner",
    "tenant": "d.tenant",
    "env": "d.env",
    "release": "d.release",
    "prompt_version": "d.prompt_version",
    "provider": "d.provider",
    "tier": "coalesce(d.tier_served, d.tier_requested, 'standard')",
    "path": "d.path",
    "request_model": "d.request_model",
    "fallback_from": "d.fallback_from",
    "system_hash": "(SELECT p.system_hash FROM prompt p WHERE p.id = c.prompt)",
    "tools_hash": "(SELECT p.tools_hash FROM prompt p WHERE p.id = c.prompt)",
    "hour": "strftime('%Y-%m-%dT%HZ', c.ts_us / 1000000, 'unixepoch')",
    "day": "date(c.ts_us / 1000000, 'unixepoch')",
    "week": "strftime('%G-W%V', c.ts_us / 1000000, 'unixepoch')",
    "month": "strftime('%Y-%m', c.ts_us / 1000000, 'unixepoch')",
    **{
        name: f"json_extract(d.extra, '$.{name}')"
        for name in ("agent", "node", "graph_step", "purpose", "source", "prompt_name", "data_sources")
    },
}
"""What a report may group by, and where that is kept. Times are those of UTC, weeks are numbered as in ISO 8601."""
TIMES: Final = ("hour", "day", "week", "month")
NONE: Final = "(none)"
BETWEEN: Final = " · "
"""What stands between the values of two tags."""
WRITES: Final = (
    "c.cache_write_5m_tokens + c.cache_write_30m_tokens + c.cache_write_1h_tokens + c.cache_write_12h_tokens"
)
MORE: Final = "CAST(total(c.requests - 1) AS INTEGER)"
"""Calls beyond the number of rows: a row that was imported may be the sum of many."""
CALLS: Final = "coalesce(c.requests, 1)"
"""How many calls a row stands for; of nobody knows how many, one."""
AGGREGATE: Final = "aggregate"
"""Flag: the row is the sum of several calls, or of nobody knows how many."""
NOBODY_WAITED: Final = ("batch", "background", "imported")
"""Paths of calls whose latency is nobody's, or not known."""
