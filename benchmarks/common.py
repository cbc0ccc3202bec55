"""What the benchmarks share: facts of the machine, a ledger of their own, tables, and the distribution of figures."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import bursar
from bursar.pricing.tokens import COUNTER
from bursar.runs.process import process

PACKAGES = ("bursar", "openai", "anthropic", "httpx2", "apsw", "tiktoken", "shekel", "floe-guard")


def facts() -> dict[str, Any]:
    """The machine and the versions that the figures belong to."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "packages": versions,
    }


def show_facts(found: dict[str, Any]) -> str:
    """The facts in two lines."""
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    return f"python {found['python']}, {found['system']}, {found['cpus']} CPUs, load {found['load_before']}\n{packages}"


@contextmanager
def own_ledger() -> Iterator[Path]:
    """A new ledger file in a temporary directory, token ranks loaded; nothing learned before counts."""
    COUNTER.count("load the ranks now, not in the first call that is timed")
    with tempfile.TemporaryDirectory(prefix="bursar-bench-") as directory:
        path = Path(directory) / "ledger.db"
        bursar.configure(ledger=path, mode="enforce", env="benchmark")
        process()
        try:
            yield path
        finally:
            bursar.configure(ledger=Path(directory) / "after.db")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and ninetieth percentile of some rounds."""
    ordered = sorted(values)
    return {
        "median": statistics.median(ordered),
        "min": ordered[0],
        "p90": ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))],
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a median: between two of the values, by the binomial distribution of their ranks."""
    ordered, n = sorted(values), len(values)
    within = ceil(0.98 * sqrt(n))
    return ordered[max(0, n // 2 - within)], ordered[min(n - 1, n // 2 + within)]


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns as wide as they need to be; the first to the left, the others to the right."""
    texts = [[str(cell) for cell in row] for row in [heads, *rows]]
    widths = [max(len(row[i]) for row in texts) for i in range(len(heads))]
    lines = ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
             for row in texts]  # fmt: skip
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def as_json(value: Any) -> str:
    """JSON for other programs to read."""
    return json.dumps(value, indent=2, default=str)
