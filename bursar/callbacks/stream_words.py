"""What one piece of a stream of LangChain says."""

from __future__ import annotations

from typing import Any


def words_of(token: Any) -> str:
    """The words of a piece, of an answer or of what is thought before it."""
    if not isinstance(token, list):
        return token if isinstance(token, str) else ""
    # Of a model with tools a piece is a list of blocks.
    blocks = [block for block in token if isinstance(block, dict)]
    return "".join(block.get("text") or block.get("thinking") or "" for block in blocks)


def arguments_of(chunk: Any) -> str:
    """What a piece adds to the arguments of tool calls."""
    pieces = getattr(getattr(chunk, "message", None), "tool_call_chunks", None) or ()
    return "".join(piece.get("args") or "" for piece in pieces)
