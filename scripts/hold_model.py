"""Every way in which a few calls can share one limit, and why each rule of the protocol is there.

    python scripts/hold_model.py                         # all interleavings of three calls, and each rule removed
    python scripts/hold_model.py --calls 4 --limit 5     # larger: half a minute for each rule

A state machine of calls, their owners, the store and the provider, searched breadth first. An owner reserves, notes
that it is about to send, sends; the provider bills at any time after that; the owner settles. At every point an owner
may die, a reply may be lost and its request repeated, a settle may arrive after its owner's death. Whoever comes later
recovers what the dead held. The bound of the last call may be clamped to what is left, and a call whose answer grows
past its hold asks for more before it goes on.

What must hold in every state: no more is billed than the limit; settled + held is never above it. And when nothing can
happen any more: nothing is held, no less is settled than was billed, and a call whose end was told is charged exactly
that. With one rule removed one of these breaks, and the shortest way there is printed.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

RULES = {
    "limit": "reserve only what fits beside settled and held",
    "all or none": "a hold that one scope refuses is held on none",
    "same id, same hold": "a reserve that is repeated holds nothing more",
    "note before sending": "write down that a call is about to leave, then send it",
    "send the cap": "what is held is the most that the provider may bill: a clamped cap is sent",
    "grow before going on": "output past the hold is held before it is taken",
    "only the dead": "holds of owners that live are left alone",
    "charge what may have been sent": "a dead owner's noted hold is charged in full",
    "free what was never sent": "a dead owner's hold that was not noted is released",
    "settle once": "a settle that is repeated charges nothing more",
    "late settle corrects": "what a call really cost replaces what was presumed",
}
BOUND = 2
"""What a call may bill before it grows."""


class Call(NamedTuple):
    """One call as owner, store and provider see it. owner: new, held, noted, sent, done or dead."""

    owner: str = "new"
    store: str = "none"
    held: int = 0
    charged: int = 0
    noted: bool = False
    flying: bool = False
    billed: int = 0
    grown: bool = False
    told: bool = False
    letter: bool = False  # a settle that outlives its owner


class State(NamedTuple):
    """All calls; and what the books have beyond them where a rule is missing."""

    calls: tuple[Call, ...]
    stray_held: int = 0
    stray_settled: int = 0

    def held(self) -> int:
        """What is held on the shared limit."""
        return self.stray_held + sum(call.held for call in self.calls)

    def settled(self) -> int:
        """What is charged to it."""
        return self.stray_settled + sum(call.charged for call in self.calls)

    def billed(self) -> int:
        """What the provider wants."""
        return sum(call.billed for call in self.calls)

    def set(self, n: int, call: Call, *, held: int = 0, settled: int = 0) -> State:
        """The state with another call in place n."""
        calls = (*self.calls[:n], call, *self.calls[n + 1 :])
        return State(calls, self.stray_held + held, self.stray_settled + settled)


def steps(  # noqa: C901 - one branch for each thing that can happen
    state: State, limit: int, rules: frozenset[str]
) -> Iterator[tuple[str, State]]:
    """Everything that can happen next."""
    for n, call in enumerate(state.calls):
        name = f"call {n}"
        alive = call.owner not in {"done", "dead"}
        if call.owner == "new":
            yield from reserve(state, n, call, limit, rules)
        if call.owner == "held":
            ahead = "noted" if "note before sending" in rules else "sent"
            sent = ahead == "sent"
            yield (
                f"{name} {'is sent' if sent else 'is noted'}",
                state.set(n, call._replace(owner=ahead, noted=not sent, flying=sent)),
            )
            yield f"{name} is given up", state.set(n, call._replace(owner="done", store="released", held=0))
        if call.owner == "noted":
            yield f"{name} is sent", state.set(n, call._replace(owner="sent", flying=True))
        if call.flying:
            # A released or clamped hold says what the cap was; the provider keeps to what it was sent.
            cap = max(call.held, call.charged) if "send the cap" in rules and call.store != "released" else BOUND
            for cost in range(1, cap + 1):
                yield f"{name} is billed {cost}", state.set(n, call._replace(flying=False, billed=cost))
        if call.owner == "sent" and call.billed:
            yield from grow(state, n, call, limit, rules)
            yield from settle(state, n, call, rules)
        if call.owner == "dead" and call.letter:
            yield from settle(state, n, call, rules)
        if alive:
            letter = call.owner == "sent" and call.billed > 0
            yield f"the owner of {name} dies", state.set(n, call._replace(owner="dead", letter=letter))
        if call.store == "held" and (call.owner == "dead" or (alive and "only the dead" not in rules)):
            yield from recover(state, n, call, rules)


def reserve(state: State, n: int, call: Call, limit: int, rules: frozenset[str]) -> Iterator[tuple[str, State]]:
    """Ask for a hold; its reply may be lost, and then it is asked for again."""
    strays = 0
    if call.store == "none":
        # Two scopes: the other one has less room, and refuses where this one would not.
        here = limit - state.settled() - state.held()
        free = min(here, limit - 1 - state.settled() - state.held())
        if "limit" not in rules:
            free = BOUND
        if free < 1:
            if here >= 1 and "all or none" not in rules and not state.stray_held:
                yield f"call {n} is refused by the other scope", state.set(n, call._replace(owner="done"), held=1)
            yield f"call {n} is refused", state.set(n, call._replace(owner="done"))
            return
        others = any(other.store == "held" for m, other in enumerate(state.calls) if m != n)
        if free < BOUND and others:
            return  # it waits
        call = call._replace(store="held", held=min(free, BOUND))
    elif call.store == "held" and "same id, same hold" not in rules:
        strays = call.held
    elif call.store != "held":
        # Recovered while its owner believed to have asked only: that id is used up.
        yield f"call {n} is refused: it has ended", state.set(n, call._replace(owner="done"))
        return
    yield f"call {n} holds {call.held}", state.set(n, call._replace(owner="held"), held=strays)
    if state.calls[n].store == "none":
        yield f"call {n} holds {call.held}, and the reply is lost", state.set(n, call, held=strays)


def grow(state: State, n: int, call: Call, limit: int, rules: frozenset[str]) -> Iterator[tuple[str, State]]:
    """An answer that would go on past the hold."""
    if call.grown or call.billed < call.held or call.store != "held":
        return
    if "grow before going on" not in rules:
        yield f"call {n} grows", state.set(n, call._replace(grown=True, billed=call.billed + 1))
    elif limit - state.settled() - state.held() >= 1:
        yield (
            f"call {n} holds one more and grows",
            state.set(n, call._replace(grown=True, held=call.held + 1, billed=call.billed + 1)),
        )


def settle(state: State, n: int, call: Call, rules: frozenset[str]) -> Iterator[tuple[str, State]]:
    """Tell what a call cost; the reply may be lost, and then it is told again."""
    twice = 0
    told = call._replace(told=True, letter=False)
    if call.store == "held":
        told = told._replace(store="committed", held=0, charged=call.billed)
    elif call.store == "presumed" and "late settle corrects" in rules:
        told = told._replace(store="committed", charged=call.billed)
    elif call.store == "committed" and "settle once" not in rules:
        twice = call.billed
    done = told if call.owner == "dead" else told._replace(owner="done")
    yield f"call {n} is settled at {call.billed}", state.set(n, done, settled=twice)
    if not call.told and call.owner != "dead":
        yield f"call {n} is settled at {call.billed}, and the reply is lost", state.set(n, told, settled=twice)


def recover(state: State, n: int, call: Call, rules: frozenset[str]) -> Iterator[tuple[str, State]]:
    """Settle what an owner that is gone held."""
    if call.noted:
        if "charge what may have been sent" in rules:
            yield (
                f"call {n} is presumed spent",
                state.set(n, call._replace(store="presumed", held=0, charged=call.held)),
            )
        else:
            yield f"call {n} is freed", state.set(n, call._replace(store="released", held=0))
    elif "free what was never sent" in rules:
        yield f"call {n} is freed: it was never sent", state.set(n, call._replace(store="released", held=0))


def broken(state: State, limit: int, *, at_rest: bool) -> str | None:
    """What does not hold in a state."""
    if state.billed() > limit:
        return f"{state.billed()} are billed under a limit of {limit}"
    if state.settled() + state.held() > limit:
        return f"{state.settled()} are settled and {state.held()} held under a limit of {limit}"
    for n, call in enumerate(state.calls):
        if call.told and call.charged != call.billed:
            return f"call {n} was told to cost {call.billed} and is charged {call.charged}"
    if at_rest and state.held():
        return f"{state.held()} are held for ever"
    if at_rest and state.settled() < state.billed():
        return f"{state.billed()} were billed and {state.settled()} are settled"
    return None


def search(calls: int, limit: int, rules: frozenset[str], *, progress: bool = False) -> tuple[int, list[str] | None]:
    """How many states there are, and the shortest way to one where something does not hold."""
    start = State((Call(),) * calls)
    came: dict[State, tuple[State, str] | None] = {start: None}
    ahead = deque([start])
    while ahead:
        state = ahead.popleft()
        following = list(steps(state, limit, rules))
        fault = broken(state, limit, at_rest=not following)
        if fault is not None:
            return len(came), [*way(came, state), fault]
        for what, other in following:
            if other not in came:
                came[other] = (state, what)
                ahead.append(other)
                if progress and len(came) % 10_000 == 0:
                    print(f"\r{len(came):,} states", end="", file=sys.stderr)
    return len(came), None


def way(came: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    """The steps that lead to a state."""
    found: list[str] = []
    while (before := came[state]) is not None:
        state, what = before
        found.append(what)
    return found[::-1]


def main() -> None:
    """Search with all rules, then without each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=3)
    parser.add_argument("--limit", type=int, default=4)
    given = parser.parse_args()
    rules, shown = frozenset(RULES), sys.stderr.isatty()
    states, fault = search(given.calls, given.limit, rules, progress=shown)
    print(f"all rules: {states:,} states, {'every one in order' if fault is None else fault}")
    missed = fault is not None
    for rule, what in RULES.items():
        states, fault = search(given.calls, given.limit, rules - {rule}, progress=shown)
        missed |= fault is None
        print(f"\nwithout '{rule}' ({what}):")
        print("  nothing breaks: the rule is not needed" if fault is None else "  " + "\n  ".join(fault))
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
