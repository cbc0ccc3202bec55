"""Loop detectors of other projects, each rebuilt from what it counts: its window, its comparison, its thresholds.

A detector takes the steps of a run and answers (touched, stopped): the number of the call at which it would first have
done anything, and of the one at which it would have ended, blocked for good or asked. Rebuilt by hand from the sources
named beside each; arguments are compared in canonical form. What cannot be replayed is left out: text checks, judges.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from benchmarks.loop_runs import Call, Step

Found = tuple[int | None, int | None]
Detector = Callable[[Sequence[Step]], Found]
_READS = ("read", "list", "get", "search", "find", "open", "view", "glob", "grep", "ls", "cat")


def consecutive(warn: int, stop: int | None) -> Detector:
    """The same call so often in a row, whatever it brings."""

    def detect(steps: Sequence[Step]) -> Found:
        last, count, touched = "", 0, None
        for step in steps:
            for n, call in enumerate(step.calls):
                count = count + 1 if call.key == last else 1
                last = call.key
                touched = step.first + n if touched is None and count >= warn else touched
                if stop is not None and count >= stop:
                    return touched, step.first + n
        return touched, None

    return detect


def openhands(*, thought: bool) -> Detector:
    """openhands-sdk 1.58 stuck_detector: 4 equal pairs, 3 equal actions with errors (stop at 4), ABAB over 6."""

    def detect(steps: Sequence[Step]) -> Found:
        pairs: list[tuple[str, str, bool]] = []
        touched: int | None = None
        for step in steps:
            if step.user:
                pairs = []
            for n, call in enumerate(step.calls):
                action = call.key + (step.text if thought else "")
                pairs = [*pairs, (action, call.raw, call.fact.error)][-10:]
                at = step.first + n
                equal = len(pairs) >= 4 and len({pair[:2] for pair in pairs[-4:]}) == 1
                failing = [pair[0] for pair in pairs[-4:] if pair[2]]
                turns = (
                    len(pairs) >= 6 and len({p[:2] for p in pairs[-6::2]}) == len({p[:2] for p in pairs[-5::2]}) == 1
                )
                if len(pairs) >= 3 and all(pair[2] for pair in pairs[-3:]) and len({p[0] for p in pairs[-3:]}) == 1:
                    touched = at if touched is None else touched
                if equal or turns or (len(failing) == 4 and len(set(failing)) == 1):
                    return (at if touched is None else touched), at
        return touched, None

    return detect


def gemini(steps: Sequence[Step]) -> Found:
    """gemini-cli-core 0.61 loopDetectionService: five times a cycle of 1 to 5 calls; the second hit halts."""
    window: deque[str] = deque(maxlen=25)
    touched: int | None = None
    for step in steps:
        if step.user:
            window.clear()
        for n, call in enumerate(step.calls):
            window.append(call.key)
            if any(_cycles(list(window), length, 5) for length in range(1, 6)):
                if touched is not None:
                    return touched, step.first + n
                touched = step.first + n
    return touched, None


def qwen(steps: Sequence[Step]) -> Found:
    """qwen-code 0.15: 5 identical, 8 of one name, or 8 read-like of the last 15 after the first that is none; halts."""
    last, same, name, named, acted = "", 0, "", 0, False
    recent: deque[bool] = deque(maxlen=15)
    for step in steps:
        for n, call in enumerate(step.calls):
            same = same + 1 if call.key == last else 1
            named = named + 1 if call.tool == name else 1
            last, name = call.key, call.tool
            reads = call.tool.lower().startswith(_READS)
            acted = acted or not reads
            recent.append(reads)
            if same >= 5 or named >= 8 or (acted and sum(recent) >= 8):
                return step.first + n, step.first + n
    return None, None


def opencode(steps: Sequence[Step]) -> Found:
    """opencode processor.ts as shipped: the last three parts of one message."""
    for step in steps:
        for n in range(2, len(step.calls)):
            if len({call.key for call in step.calls[n - 2 : n + 1]}) == 1:
                return step.first + n, step.first + n
    return None, None


def counted(warn: int, stop: int | None, *, window: int | None = None, results: bool = False) -> Detector:
    """The same call (with `results`: and the same result) so often in the run, or in so many of its last calls."""

    def detect(steps: Sequence[Step]) -> Found:
        recent: deque[str] = deque(maxlen=window)
        touched: int | None = None
        for step in steps:
            for n, call in enumerate(step.calls):
                key = call.key + (call.raw if results else "")
                recent.append(key)
                count = recent.count(key)
                touched = step.first + n if touched is None and count >= warn else touched
                if stop is not None and count >= stop:
                    return touched, step.first + n
        return touched, None

    return detect


def deerflow(steps: Sequence[Step]) -> Found:
    """deer-flow loop_detection_middleware: the calls of a step as a multiset, in 20 steps; warns at 3, ends at 5."""
    recent: deque[tuple[str, ...]] = deque(maxlen=20)
    touched: int | None = None
    for step in steps:
        if step.calls:
            key = tuple(sorted(call.key for call in step.calls))
            recent.append(key)
            count, at = recent.count(key), step.first + len(step.calls) - 1
            touched = at if touched is None and count >= 3 else touched
            if count >= 5:
                return touched, at
    return touched, None


def openrouter(steps: Sequence[Step]) -> Found:
    """typescript-agent doom-loop: a streak for each tool, that other tools do not break; blocks at 3, stops at 6."""
    streaks: dict[str, tuple[frozenset[str], int]] = {}
    touched: int | None = None
    for step in steps:
        for tool in {call.tool: None for call in step.calls}:
            keys = frozenset(call.key for call in step.calls if call.tool == tool)
            before, count = streaks.get(tool, (frozenset(), 0))
            streaks[tool] = (keys, count + 1 if keys == before else 1)
            at = step.first + len(step.calls) - 1
            touched = at if touched is None and streaks[tool][1] >= 3 else touched
            if streaks[tool][1] >= 6:
                return touched, at
    return touched, None


def vercel(*, results: bool) -> Detector:
    """The stop condition proposed in vercel/ai 17606: the same set of calls in three steps in a row."""

    def detect(steps: Sequence[Step]) -> Found:
        last: frozenset[str] = frozenset()
        count = 0
        for step in steps:
            if step.user:
                continue
            keys = frozenset(_shown(call, results=results) for call in step.calls)
            count = count + 1 if keys and keys == last else 1
            last = keys
            if keys and count >= 3:
                at = step.first + len(step.calls) - 1
                return at, at
        return None, None

    return detect


def cap(most: int) -> Detector:
    """No more than so many model calls for one message of the user."""

    def detect(steps: Sequence[Step]) -> Found:
        count = 0
        for step in steps:
            count = 0 if step.user else count + 1
            if count >= most and step.calls:
                return step.first, step.first
        return None, None

    return detect


def _cycles(keys: list[str], length: int, times: int) -> bool:
    tail = keys[-length * times :]
    return len(tail) == length * times and all(tail[i] == tail[i % length] for i in range(len(tail)))


def _shown(call: Call, *, results: bool) -> str:
    return call.key + (call.raw if results else "")


PRIOR: dict[str, Detector] = {
    "OpenHands SDK 1.58": openhands(thought=True),
    "OpenHands, thought ignored": openhands(thought=False),
    "Gemini CLI 0.61": gemini,
    "Qwen Code 0.15, if enabled": qwen,
    "opencode, as shipped": opencode,
    "opencode, as meant (3 in a row)": consecutive(3, 3),
    "Roo Code (4th in a row)": consecutive(4, 4),
    "Cline SDK 0.0.86 (3, 5)": consecutive(3, 5),
    "Kimi Code (3, 12)": consecutive(3, 12),
    "CrewAI text path (2nd in a row)": consecutive(2, None),
    "CrewAI 1.15 native (5 with result)": counted(5, 5, results=True),
    "DeerFlow (20 steps, 3, 5)": deerflow,
    "browser-use 0.13 (20 calls, 5)": counted(5, None, window=20),
    "OpenRouter agent (3, 6)": openrouter,
    "Google ADK (3)": counted(3, None),
    "Vercel proposal, calls (3)": vercel(results=False),
    "Vercel proposal, results (3)": vercel(results=True),
    "cap 10": cap(10),
    "cap 20": cap(20),
    "cap 50": cap(50),
}
