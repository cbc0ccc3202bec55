"""A program at a terminal of its own that asks before it pays: what it prints is what came of it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import sys
import termios
import warnings
from concurrent.futures import ThreadPoolExecutor

import bursar
from bursar import Budget, CostGate
from bursar.cli.approvals import watch_command

warnings.simplefilter("ignore")


def main(how: str, given: str, timeout: str) -> None:
    """Pay, once or twice, as asked."""
    if how != "no tty":
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        before = termios.tcgetattr(0)
    args = json.loads(given)
    pay = bursar.tool(usd="0.02", name=args.pop("name", "pay"))(lambda **what: f"paid {json.dumps(what)[:200]}")
    try:
        gates = [] if how == "full" else [CostGate(tool="*", ask="always", timeout=timeout)]
        with bursar.run("w", Budget(usd="1"), *gates) as run:
            if how == "watch":
                watch_command(once=True)
                said = ["watched"]
            elif how == "two":
                with ThreadPoolExecutor(2) as pool:
                    made = [pool.submit(run.bind(lambda n=n: pay(**args, n=n))) for n in range(2)]
                    said = [str(each.result()) for each in made]
            elif how == "async":

                @bursar.tool(usd="0.02", name="pay")
                async def apay(**what: object) -> str:
                    return f"paid {what}"

                async def both() -> list[str]:
                    return list(await asyncio.gather(apay(n=0), apay(n=1)))

                said = asyncio.run(both())
            elif how == "full":
                with bursar.budget(usd="0.01") as inner, bursar.run("w", CostGate(ask="full", timeout=timeout)):
                    said = [str(pay(**args)), f"{inner.remaining['usd'] + inner.spend.usd:.2f}"]
            else:
                said = [str(pay(**args))]
    except KeyboardInterrupt:
        said = ["interrupted"]
    print("\nRESULT " + json.dumps(said))
    if how != "no tty":
        print("SANE", before == termios.tcgetattr(0))
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:4])
