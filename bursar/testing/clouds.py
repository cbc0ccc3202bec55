"""Clouds: the paths under which others sell the vendors' models, and what is theirs in an answer."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote

_AZURE = re.compile(r"/openai(?:/v1|/deployments/(?P<model>[^/]+))?(?P<rest>/.+)")
_VERTEX = re.compile(r".*/publishers/anthropic/models/(?P<model>[^/:]+):(?:rawPredict|streamRawPredict)")
_VERTEX_OPENAI = re.compile(r".*/publishers/openai(?P<rest>/v1/.+)")
_GOOGLE_CLOUD = re.compile(r"/v1/projects/.+/invoke(?P<rest>/v1/.+)")
_BEDROCK = re.compile(r"/model/(?P<model>[^/]+)/invoke(?P<stream>-with-response-stream)?")
_FOUNDRY = re.compile(r"/anthropic(?P<rest>/v1/.+)")
_OPENROUTER = re.compile(r"/api(?P<rest>/v1/.+)")


class Place(NamedTuple):
    """The vendor's own path for a cloud's, and what the cloud says in its path instead of the body."""

    path: str
    said: Mapping[str, str | bool] = MappingProxyType({})


def place(path: str) -> Place:
    """Where a path leads; one that is no cloud's leads where it says."""
    if found := _AZURE.fullmatch(path):
        return Place("/v1" + found["rest"], {"model": found["model"]} if found["model"] else {})
    if found := _VERTEX.fullmatch(path):
        return Place("/v1/messages", {"model": found["model"]})
    if found := _BEDROCK.fullmatch(path):
        return Place("/v1/messages", {"model": unquote(found["model"]), "stream": found["stream"] is not None})
    for cloud in (_FOUNDRY, _GOOGLE_CLOUD, _VERTEX_OPENAI, _OPENROUTER):
        if found := cloud.fullmatch(path):
            return Place(found["rest"])
    return Place(path)


def is_bedrock(path: str) -> bool:
    """Whether a path is of Bedrock's own API, whose streams are binary and whose errors are Amazon's."""
    return _BEDROCK.fullmatch(path) is not None
