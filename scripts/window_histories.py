"""Cut every recorded conversation at every step, in every wire form, by every strategy, and look at what is left.

    python -m scripts.window_histories FOLDER              # trajectories (*.jsonl.gz); minutes of every core
    python -m scripts.window_histories FOLDER --share 0.05 --json

Each request of a run is trimmed in four ways: as the run goes on, with one memory, in a window of four tenths of the
whole; by a cut that is forced at just this step; without any memory, by the grid of the history alone; and through a
memory that was written down as JSON and read again. Of each it is asked what `tests/clients/conversations.py` asks:
never empty, no call without its result and no result without its call, what the system says and the first and latest
message of the user there, the last turn whole, what stayed unchanged with its signatures, every message accepted by the
SDK's own types. And between two cuts each request is the last one and something added. Runs that are recorded without
their text are made anew with words of the same length. Exit code 1: something did not hold.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import random
import sys
import time
import traceback
import warnings
from collections import Counter
from operator import is_not
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bursar import ContextWindow, WindowMemory, trim
from bursar.clients.histories import Reading
from tests.clients.conversations import FORMS, check, clean, extends, requests, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

STRATEGIES = ("ladder", "drop", "clear_results", "summarise", "slide")
LEAST = 120
"""Tokens of the smallest window: less than one turn is never cut."""


def main() -> int:
    """Read the arguments, check every history and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="recorded runs (*.jsonl.gz)")
    parser.add_argument("--share", type=float, default=1.0, help="of the histories, drawn with a fixed seed")
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--json", action="store_true", help="counts for a program")
    options = parser.parse_args()
    found, failed, began = Counter[str](), list[str](), time.monotonic()
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for counts, failure in pool.imap_unordered(examine, histories(options.folder, options.share), chunksize=8):
            found += counts
            failed += [failure] if failure else []
            if not options.json and found["histories"] % 500 == 0 and counts:
                print(f"{found['histories']:,} histories, {found['trims']:,} trims", file=sys.stderr, flush=True)
    figures = {**found, "failed": len(failed), "seconds": round(time.monotonic() - began)}
    print(json.dumps(figures) if options.json else "\n".join(f"{name}: {n:,}" for name, n in figures.items()))
    for failure in failed[:20]:
        print(failure, file=sys.stderr)
    return bool(failed)


def histories(folder: Path, share: float) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Every run of the folder as messages of chat completions, with its name."""
    dice = random.Random(17)
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                if dice.random() < share:
                    run = json.loads(line)
                    yield run["id"], clean(run["messages"]) if "messages" in run else _made(run["steps"])


def examine(named: tuple[str, list[dict[str, Any]]]) -> tuple[Counter[str], str]:
    """Check one history in every form; what was counted, and what did not hold."""
    warnings.simplefilter("ignore")
    name, messages = named
    counts = Counter(histories=1, **{"histories with requests": bool(requests(messages))})
    for form in FORMS:
        try:
            counts += _examined(form, messages)
        except Exception:  # noqa: BLE001 - whatever it is, it is what is looked for
            return counts, f"{name}, {form}: {traceback.format_exc(limit=3)}"
    return counts, ""


def _examined(form: str, messages: list[dict[str, Any]]) -> Counter[str]:
    whole, reading = FORMS[form](messages), Reading()
    ends = [len(FORMS[form](messages[:at])) for at in requests(messages)]
    if not ends:
        return Counter()
    before = json.dumps(text_of(form, whole))
    check(form, whole[: ends[-1]], whole[: ends[-1]])
    sizes = {end: reading.take(whole[:end]).tokens() for end in ends}
    counts = Counter[str]()
    for strategy in STRATEGIES:
        counts += _run(form, strategy, whole, ends, max(LEAST, 4 * max(sizes.values(), default=0) // 10))
        counts += _each(form, strategy, whole, ends, sizes)
    assert json.dumps(text_of(form, whole)) == before, "what was given was changed"
    return counts


def _run(form: str, strategy: str, whole: list[Any], ends: list[int], tokens: int) -> Counter[str]:
    """The requests of a run one after the other."""
    counts = Counter[str]()
    spec, memory, last = _window(strategy, tokens), WindowMemory(), list[str]()
    for n, end in enumerate(ends):
        if n % 5 == 4:
            reading, made = memory.reading, memory.last
            memory = WindowMemory.load(json.loads(json.dumps(memory.dump())))
            memory.reading, memory.last = reading, made
        made = memory.last
        sent = trim(whole[:end], spec, memory=memory)
        _check(form, whole[:end], sent)
        text = text_of(form, sent)
        cut = memory.last is not made
        assert cut or not last or extends(last, text), "the prefix changed without a cut"
        counts += Counter(trims=1, cuts=cut, requests=1)
        last = text
    return counts


def _each(form: str, strategy: str, whole: list[Any], ends: list[int], sizes: dict[int, int]) -> Counter[str]:
    """A cut at each request by itself: forced in a conversation that was whole until then, and by the grid."""
    counts = Counter[str]()
    reading, calm = Reading(), _window("ladder", 10**9)
    for before, end in zip([None, *ends], ends, strict=False):
        spec = _window(strategy, max(LEAST, 6 * sizes[end] // 10))
        memory = WindowMemory()
        memory.reading = reading
        if before is not None:
            trim(whole[:before], calm, memory=memory)
        _check(form, whole[:end], trim(whole[:end], spec, memory=memory))
        alone = WindowMemory()
        alone.reading = reading
        _check(form, whole[:end], trim(whole[:end], spec, memory=alone))
        counts += Counter(trims=2, cuts=(memory.last is not None) + (alone.last is not None))
    return counts


def _check(form: str, given: list[Any], sent: list[Any]) -> None:
    # What was left whole is looked at once, with the longest request.
    if len(given) != len(sent) or any(map(is_not, given, sent)):
        check(form, given, sent)


def _window(strategy: str, tokens: int) -> ContextWindow:
    summarise = (lambda dropped: f"{len(dropped)} messages") if strategy == "summarise" else None
    return ContextWindow(tokens=tokens, strategy=strategy, summarise=summarise)


def _made(steps: list[Any]) -> list[dict[str, Any]]:
    """A conversation of the recorded lengths: in a skeleton a step is ["u"] or tokens in and out and its calls."""
    said: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}]
    into = 0
    for at, step in enumerate(steps):
        if step == ["u"]:
            said.append({"role": "user", "content": f"and then? {at}"})
            continue
        if len(said) == 1:
            said.append({"role": "user", "content": "Do it."})
        grown, into = max(8, min(25_000, step[1] - into)), step[1] + step[2]
        results = [message for message in said if message["role"] == "tool" and message["content"] == ""]
        for message in results:
            message["content"] = "word " * (grown // len(results))
        calls = [
            {"id": f"c{at}-{n}", "type": "function", "function": {"name": call[0], "arguments": json.dumps(call[1])}}
            for n, call in enumerate(step[4])
            if call[3] is not None
        ]
        message = {"role": "assistant", "content": "said " * step[2]}
        said.append(message | {"tool_calls": calls} if calls else message)
        said += [{"role": "tool", "tool_call_id": call["id"], "content": ""} for call in calls]
    return said


if __name__ == "__main__":
    sys.exit(main())
