"""What the loop guard tells the model. Each note is the same whenever it is given: a request keeps its bytes.

A note says which kind of step brings nothing new and names ways on. It never quotes the call: that makes its repetition
likelier.
"""

from __future__ import annotations

from typing import Final

NOTE_MARK: Final = "[loop guard] "
"""How a note begins: it is no message of the user, and no part of a result."""

_WAYS_ON: Final = (
    "Take another way: use a different tool or different information, ask the user for what is missing, or answer with "
    "what you have and say what could not be found out."
)
_WHAT: Final = {
    "identical_result": "The last steps asked for what is known already, and the result is as before.",
    "identical_error": "The last steps failed in the same way each time.",
    "cycle": "The last steps go round in a circle: each brought what it had brought before.",
    "volatile_result": "The last steps brought the same again, but for numbers.",
    "same_error": "The last steps all failed with one and the same error, whatever was tried.",
    "stubborn_error": "One kind of step has failed with the same error again and again, since before the last message.",
    "same_failure": "One step has now failed many times in the same way.",
    "near_duplicate": "The last steps are the same but for numbers, and so is what they brought.",
    "identical_calls": "The last steps are all one and the same. If something is being waited for, wait longer.",
    "empty_results": "The last steps of this kind all came back empty.",
    "repeated_text": "The last answers are the same.",
    "repeated_write": "This has been done already; doing it again does it twice.",
}
_LAST: Final = (
    "No further tool will be called. Give your final answer now from what is known, and say what is missing and why."
)
_REFUSED: Final = "Not done: it would bring what it brought before. If you wait for something, try again later. "


def note(action: str, kind: str) -> str:
    """The text of a nudge, of a block or of the last word, for one kind of loop."""
    what = _WHAT[kind]
    if action == "finish":
        return f"{NOTE_MARK}{what} {_LAST}"
    return f"{NOTE_MARK}{what} {_WAYS_ON}"


def refusal(kind: str) -> str:
    """What stands in place of the result of a call that was refused."""
    return f"{NOTE_MARK}{_WHAT[kind] if kind == 'repeated_write' else _REFUSED}{_WAYS_ON}"
