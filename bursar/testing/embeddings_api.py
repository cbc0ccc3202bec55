"""OpenAI's Embeddings API: small made-up vectors, honest tokens."""

import base64
import struct
from typing import Any

from bursar.testing import tokenizer
from bursar.testing.refusal import RefusalError

_DIMENSIONS = 8


def texts(body: dict[str, Any]) -> list[Any]:
    """The inputs: texts, or lists of token numbers."""
    given = body.get("input")
    if given is None or given in ("", []):
        raise RefusalError(
            400, "Missing required parameter: 'input'.", param="input", code="missing_required_parameter"
        )
    if isinstance(given, list) and not all(isinstance(value, int) for value in given):
        return given
    return [given]


def tokens(inputs: list[Any]) -> int:
    """The tokens of all inputs; a list of token numbers has its length."""
    return sum(len(each) if isinstance(each, list) else tokenizer.count(str(each)) for each in inputs)


def embeddings(body: dict[str, Any], inputs: list[Any]) -> dict[str, Any]:
    """A list of unit vectors, one per input, in the encoding that was asked for; no usage yet."""
    as_base64 = body.get("encoding_format") == "base64"
    size = body.get("dimensions")
    vector = [1.0] + [0.0] * ((size if isinstance(size, int) and size > 0 else _DIMENSIONS) - 1)
    packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    data = [
        {"object": "embedding", "index": index, "embedding": packed if as_base64 else vector}
        for index in range(len(inputs))
    ]
    return {"object": "list", "data": data, "model": body.get("model")}
