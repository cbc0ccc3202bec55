"""What `bursar replay --window 120k` shows: the strategies of a context window beside each other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import typer

from bursar.cli.console import output, text_table

if TYPE_CHECKING:
    from bursar.replay import RunCost, WindowCost

_SIZE: Final = re.compile(r"([0-9]{1,9})(k?)", re.ASCII | re.IGNORECASE)


def read_size(text: str) -> int:
    """Read "120k" or "120000" as tokens. Raises a usage error with the value."""
    read = _SIZE.fullmatch(text)
    tokens = int(read[1]) * (1_000 if read[2] else 1) if read else 0
    if tokens < 1:
        raise typer.BadParameter(f"--window {text[:40]!r} is no number of tokens, as in 120k")
    return tokens


class WindowTable:
    """The sums of each strategy, over the runs that outgrew the window."""

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._sums: dict[str, WindowCost] = {}
        self._runs = self._unpriced = 0

    def add(self, run: RunCost) -> None:
        """Take in one run."""
        if not run.windows or self._size is None or run.windows[0].peak <= self._size:
            return
        self._runs += 1
        self._unpriced += run.windows[0].nusd is None
        for cost in run.windows:
            whole = self._sums.get(cost.strategy)
            if whole is None:
                whole = self._sums[cost.strategy] = type(cost)(cost.strategy)
            for name in ("requests", "input_tokens", "cached", "output_tokens", "cuts", "trimmed"):
                setattr(whole, name, getattr(whole, name) + getattr(cost, name))
            whole.nusd = (whole.nusd or 0) + (cost.nusd or 0)
            whole.peak = max(whole.peak, cost.peak)

    def show(self) -> None:
        """Write the table."""
        from bursar.words.money import show_usd

        if self._size is None:
            return
        if not self._runs:
            output(f"no run outgrew a window of {self._size:,} tokens: no strategy would have changed anything")
            return
        whole = self._sums["none"].nusd or 0
        output(f"\n{self._runs:,} runs outgrew a window of {self._size:,} tokens; with the provider's prefix cache:")
        text_table(
            ["strategy", "cuts", "input", "cache share", "trimmed", "peak", "cost", "of untrimmed"],
            [
                [
                    cost.strategy,
                    f"{cost.cuts:,}",
                    f"{cost.input_tokens:,}",
                    f"{cost.cached / cost.input_tokens:.1%}" if cost.input_tokens else "",
                    f"{cost.trimmed:,}",
                    f"{cost.peak:,}",
                    show_usd(cost.nusd) if self._runs > self._unpriced else "unknown",
                    f"{(cost.nusd or 0) / whole:.3f}" if whole else "",
                ]
                for cost in self._sums.values()
            ],
        )
        if self._unpriced:
            output(f"{self._unpriced:,} of them have no price and are not in the cost")
