"""Conversations: what the Responses API remembers, so that a follow-up is billed for all that came before."""

from typing import Any

from bursar.testing.cache import Segment
from bursar.testing.dialect import Answer
from bursar.testing.refusal import RefusalError

_PER_ANSWER = 4


class Conversations:
    """The prompts of stored responses, each with its answer, by response id."""

    def __init__(self) -> None:
        self._prompts: dict[str, list[Segment]] = {}

    def before(self, body: dict[str, Any]) -> list[Segment]:
        """The prompt that `previous_response_id` stands for; raises the refusal when there is none."""
        previous = body.get("previous_response_id")
        if previous is None:
            return []
        if not isinstance(previous, str) or previous not in self._prompts:
            message = f"Previous response with id '{previous}' not found."
            raise RefusalError(400, message, param="previous_response_id", code="previous_response_not_found")
        return self._prompts[previous]

    def keep(self, prompt: list[Segment], answer: Answer) -> None:
        """Remembers a response unless its caller forbade it; reasoning is not part of what is read again."""
        if answer.request.body.get("store") is not False:
            said = Segment(answer.generation.text, _PER_ANSWER)
            calls = [Segment(section.text, _PER_ANSWER) for _, section in answer.generation.of_kind("tool")]
            self._prompts[f"resp_{answer.ident}"] = [*prompt, said, *calls]

    def clear(self) -> None:
        """Forgets every response."""
        self._prompts.clear()
