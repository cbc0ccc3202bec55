"""Clouds: the paths under which Azure, Vertex and Bedrock sell the vendors' models."""

import re

_AZURE = re.compile(r"/openai(?:/v1|/deployments/(?P<model>[^/]+))?(?P<rest>/.+)")
_VERTEX = re.compile(r".*/publishers/anthropic/models/(?P<model>[^/:]+):(?:rawPredict|streamRawPredict)")
_BEDROCK = re.compile(r"/model/(?P<model>[^/]+)/invoke")
_FOUNDRY = re.compile(r"/anthropic(?P<rest>/v1/.+)")


def plain_path(path: str) -> tuple[str, str | None]:
    """The vendor's own path for a cloud's, and the model that the cloud has in it."""
    if found := _AZURE.fullmatch(path):
        return "/v1" + found["rest"], found["model"]
    if found := _VERTEX.fullmatch(path) or _BEDROCK.fullmatch(path):
        return "/v1/messages", found["model"].replace("%3A", ":")
    if found := _FOUNDRY.fullmatch(path):
        return found["rest"], None
    return path, None
