"""Where a soak takes place: a directory with its ledger, its configuration and its diary."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import anthropic
import openai

import bursar
from scripts.soak.diary import Diary
from scripts.soak.place import PLACE, here, ledger_of
from scripts.soak.provider import OWN_BATCH, OWN_MODEL, OWN_PRICE
from scripts.soak.windows import LIMITS, ZONE

if TYPE_CHECKING:
    from pathlib import Path

USER_USD: Final = "0.60"
USER_NUSD: Final = 600_000_000
_TOML: Final = f"""
[bursar]
ledger = "ledger.db"
env = "production"
content = "masked"
keep_content = "2m"
timezone = "{ZONE}"

[env.production]
usd_per_day = "500"

[[limit]]
per = "user"
window = "day"
usd = "{USER_USD}"

[[price]]
model = "{OWN_MODEL}"
provider = "anthropic"
input = "{OWN_PRICE["input"]}"
output = "{OWN_PRICE["output"]}"

[[price]]
model = "{OWN_MODEL}"
provider = "anthropic"
tier = "batch"
input = "{OWN_BATCH["input"]}"
output = "{OWN_BATCH["output"]}"

{LIMITS}

[workflow."soak crew"]
owner = "support-platform"
oncall = "support-oncall"
usd_per_day = "400"
usd_per_run = "5"
retries = {{ attempts = 9 }}

[workflow."soak window"]
owner = "ana"
accepted = {{ why = "long conversations are what it is for", owner = "ana", revisit_when = "usd_per_day > 400" }}

[tool."pay"]
usd = "0.0002"
effect = "write"

[tool."wire"]
usd = "0.0003"
effect = "write"

[[gate]]
ask_above_usd = "0.05"
approver = "python:scripts.soak.approvers:policy"
"""
_ANTHROPIC: Final = "BURSAR_SOAK_ANTHROPIC"
_OPENAI: Final = "BURSAR_SOAK_OPENAI"


class House:
    """Found by the processes of a soak through their environment."""

    def __init__(self, place: Path, anthropic_url: str, openai_url: str) -> None:
        self.place, self.anthropic_url, self.openai_url = place, anthropic_url, openai_url
        self.ledger, self.diary_path = ledger_of(place), place / "diary.jsonl"
        self.diary = Diary(self.diary_path)

    def furnish(self) -> None:
        """Write the configuration, and tell the processes that are started from here where it is."""
        (self.place / "bursar.toml").write_text(_TOML)
        os.environ |= {PLACE: str(self.place), _ANTHROPIC: self.anthropic_url, _OPENAI: self.openai_url}
        os.environ["BURSAR_CONFIG"] = str(self.place / "bursar.toml")

    @staticmethod
    def here() -> House:
        """Find the one that this process was started in."""
        return House(here(), os.environ[_ANTHROPIC], os.environ[_OPENAI])

    def clients(self) -> dict[str, object]:
        """Wrap a client of each SDK, sync and async."""
        claude, gpt = self.anthropic_url, self.openai_url
        return {
            "messages": bursar.wrap(anthropic.Anthropic(base_url=claude, api_key="x", max_retries=1)),
            "openai": bursar.wrap(openai.OpenAI(base_url=gpt, api_key="x", max_retries=1)),
            "async messages": bursar.wrap(anthropic.AsyncAnthropic(base_url=claude, api_key="x", max_retries=1)),
            "async openai": bursar.wrap(openai.AsyncOpenAI(base_url=gpt, api_key="x", max_retries=1)),
        }
