"""Endpoints of the service whose calls are asked about, and whose budgets somebody may raise."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final

import bursar
from bursar import Budget
from scripts.soak.approvers import gate
from scripts.soak.runs import agent, aquietly, aseveral, dice, house, quietly, several, small

if TYPE_CHECKING:
    from scripts.soak.marks import Mark


@bursar.tool(usd="0.0003", effect="write", name="wire")
def wire(amount: int, nonce: str) -> str:
    """Send money, where somebody has said yes to just that."""
    house.diary.made("wire", amount=amount, nonce=nonce)
    return f"sent {amount}"


@bursar.tool(usd="0.0003", effect="write", name="wire")
async def awire(amount: int, nonce: str) -> str:
    """The same on the loop."""
    house.diary.made("wire", amount=amount, nonce=nonce)
    return f"sent {amount}"


def order() -> dict[str, Any]:
    """Arguments that no other call has."""
    return {"amount": dice.randint(1, 9), "nonce": f"{dice.getrandbits(64):x}"}


def gated(user: str) -> None:
    """Tools that are asked about, in threads, some of them without a yes."""
    gates = gate(dice, tool="wire", ask="always"), gate(dice, model="*", ask_above_usd="0.000001")
    with agent("gated", user, *gates, limit=small()) as (run, mark):
        workers = [threading.Thread(target=run.bind(quietly), args=(_gated, mark)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


def _gated(mark: Mark) -> None:
    for _ in range(2):
        wire(**order())
        several(mark, 1)


async def gated_awaited(user: str) -> None:
    """The same on the loop, sometimes cancelled while somebody thinks."""
    gates = gate(dice, tool="wire", ask="always"), gate(dice, ask_above_usd="0.000001")
    with agent("gated awaited", user, *gates, limit=small()) as (_, mark):
        await asyncio.gather(*(aquietly(_agated(mark)) for _ in range(3)))


async def _agated(mark: Mark) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(dice.choice([0.1, 60, 60])):
            await awire(**order())
            await aseveral(mark, 1)


def raised(user: str) -> None:
    """A budget that is too small for what is wanted, and somebody who may raise it; nested, in threads."""
    hard = dice.random() < 0.5
    limit = Budget(usd="0.005", bound="hard" if hard else "practical")
    with agent("raised", user, gate(dice, ask="full"), limit=limit, hard=hard) as (run, mark):
        workers = [threading.Thread(target=run.bind(quietly), args=(_raised, mark)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


def _raised(mark: Mark) -> None:
    for _ in range(4):
        several(mark, 1)


async def raised_awaited(user: str) -> None:
    """The same on the loop, with a part set aside for the last call."""
    limit = Budget(usd="0.02", reserve_final="0.01")
    with agent("raised awaited", user, gate(dice, ask="full"), limit=limit) as (_, mark):
        await asyncio.gather(*(aquietly(aseveral(mark)) for _ in range(3)))


GATED: Final = (gated, gated_awaited, raised, raised_awaited)
