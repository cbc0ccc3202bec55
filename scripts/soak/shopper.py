"""One process at `market.py`: calls of every model there, with the prices that it began with, until told to end."""

from __future__ import annotations

import json
import os
import time
import warnings
from pathlib import Path
from typing import Any, Final

import openai

import bursar
from bursar import Budget
from bursar.runs.process import process

LISTED: Final = "gpt-4o"
AGREED: Final = "gpt-4o-mini"
HOUSE: Final = "house-model-1"
NEWEST: Final = "gpt-9-newest"
MODELS: Final = (LISTED, AGREED, HOUSE, NEWEST)
_PAUSE_S: Final = 0.5


def main() -> None:
    """Call each in turn. No limit is in dollars: under one, what has no price is refused."""
    url, stage, end = json.loads(os.environ["BURSAR_MARKET"])
    warnings.simplefilter("ignore")
    client: Any = bursar.wrap(openai.OpenAI(base_url=url, api_key="x", max_retries=1))
    parent = os.getppid()
    process()
    print("ready", flush=True)
    while not Path(end).exists() and os.getppid() == parent:
        with bursar.run("market", Budget(tokens=100_000), stage=str(stage)):
            for model in MODELS:
                said = [{"role": "user", "content": f"What is the price of {time.monotonic_ns()} oranges?"}]
                client.chat.completions.create(model=model, max_completion_tokens=100, messages=said)
        time.sleep(_PAUSE_S)
    process().close()


if __name__ == "__main__":
    main()
