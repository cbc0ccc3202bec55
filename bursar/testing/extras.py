"""Extras: what an answer is billed for besides plain tokens, where a test asks for it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Iteration:
    """One entry of Anthropic's `usage.iterations` that is not the answer itself, or a compaction of OpenAI's Responses.

    "compaction" is billed at the price of the model that was asked, "advisor_message" at that of its own `model`,
    "message" too: it is what a model did that then declined, and free where that has written nothing. All come on top
    of the totals of the usage. `input_tokens` are uncached.
    """

    kind: Literal["compaction", "advisor_message", "message"]
    input_tokens: int
    output_tokens: int
    model: str | None = None
    cache_read: int = 0
    cache_write_5m: int = 0


@dataclass(frozen=True, slots=True)
class Extras:
    """What comes on top, or is told apart.

    `inference_geo` and `speed` are where and how fast an answer of Anthropic's was made, instead of what was asked.
    `cache_write_30m` and `cache_write_12h` are tokens of the prompt that OpenAI writes to its cache. Audio tokens of
    the input come on top of the prompt, those of the output are part of the answer. `served_by` is the fallback of
    Anthropic's that answers, at its own price, where models before it have declined; no credit is given for what it
    writes to its cache.
    """

    web_searches: int = 0
    web_fetches: int = 0
    inference_geo: str | None = None
    speed: str | None = None
    cache_write_30m: int = 0
    cache_write_12h: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    iterations: tuple[Iteration, ...] = ()
    served_by: str | None = None

    def declined(self) -> tuple[Iteration, ...]:
        """The models that were asked before the one that answers."""
        return tuple(entry for entry in self.iterations if entry.kind == "message")


NONE = Extras()
