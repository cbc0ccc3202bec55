"""What one attempt may use at most, in numbers: the question that the budget answers."""

from __future__ import annotations

from typing import Final, NamedTuple

from bursar.words.money import PICO_PER_NANO

LEAST_TOKENS: Final = 16
"""The smallest output cap that every API takes (OpenAI's Responses refuse less)."""
FLOOR_TOKENS: Final = 256
"""No answer is clamped below this many output tokens (or below what was asked, where that is less)."""


class Rate(NamedTuple):
    """What a call costs at most: `fixed` nano-dollars plus pico-dollars for each token of input and output."""

    fixed_nusd: int
    input_pico: int
    output_pico: int

    def bound(self, input_tokens: int, output_tokens: int) -> int:
        """Nano-dollars, rounded up."""
        fixed_nusd, input_pico, output_pico = self
        return fixed_nusd - (-(input_tokens * input_pico + output_tokens * output_pico) // PICO_PER_NANO)


class Demand(NamedTuple):
    """One attempt as the budget sees it; token counts for one choice, `choices` of them.

    input_practical: the learned bound on the input; input_hard: the bound that bytes give. cap: the largest
    output the request allows as it stands. floor: the smallest output worth sending on a clamp; least: the smallest cap
    that the provider takes. learned: what outputs of
    this kind stay under, None while unknown. clampable: whether the cap may be changed at all. price: at the
    practical and at the hard input, since a long input can reach a dearer tier; None where dollars do not count.
    """

    input_practical: int
    input_hard: int
    cap: int
    floor: int
    least: int
    learned: int | None
    choices: int
    clampable: bool
    calls: int
    price: tuple[Rate, Rate] | None
