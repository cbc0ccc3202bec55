"""The objects of OpenAI's Chat Completions API: the completion, its message, its usage."""

from typing import Any

from bursar.testing.dialect import Answer
from bursar.testing.generation import Section
from bursar.testing.openrouter import accounts


def head(answer: Answer, kind: str) -> dict[str, Any]:
    """What a completion and each of its chunks begin with."""
    return {
        "id": f"chatcmpl-{answer.ident}",
        "object": kind,
        "created": answer.created_s,
        "model": answer.model,
        "service_tier": answer.tier,
        "system_fingerprint": "fp_loopback",
    }


def completion(answer: Answer) -> dict[str, Any]:
    """The finished completion."""
    choices = [
        {
            "index": index,
            "message": _message(answer, index),
            "logprobs": None,
            "finish_reason": finish_reason(answer),
        }
        for index in range(answer.choices)
    ]
    return answer.reply.with_usage({**head(answer, "chat.completion"), "choices": choices}, usage(answer))


def usage(answer: Answer) -> dict[str, Any]:
    """Prompt tokens include cached ones, completion tokens include reasoning and all choices."""
    prompt, output = answer.prompt, answer.output_tokens
    spoken = min(answer.reply.extras.audio_output_tokens, output)
    reasoning = answer.generation.thinking_tokens * answer.choices
    return {
        "prompt_tokens": prompt.total,
        "completion_tokens": output,
        "total_tokens": prompt.total + output,
        "prompt_tokens_details": {
            "cached_tokens": prompt.cache_read,
            "audio_tokens": prompt.audio,
            "cache_write_tokens": prompt.cache_write,
        },
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": spoken,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
        **({} if answer.told_nusd is None else accounts(answer.told_nusd)),
    }


def finish_reason(answer: Answer) -> str:
    """Why the model stopped."""
    if answer.generation.truncated:
        return "length"
    return "tool_calls" if answer.generation.of_kind("tool") else "stop"


def tool_call(section: Section, arguments: str, choice: int) -> dict[str, Any]:
    """A function call with these arguments, JSON text that may be cut short."""
    name = section.tool.name if section.tool else ""
    function = {"name": name, "arguments": arguments}
    return {"id": section.call_id("call", choice), "type": "function", "function": function}


def _message(answer: Answer, choice: int) -> dict[str, Any]:
    text = answer.generation.text
    calls = [tool_call(section, section.text, choice) for _, section in answer.generation.of_kind("tool")]
    if calls:
        return {"role": "assistant", "content": text or None, "refusal": None, "tool_calls": calls}
    return {"role": "assistant", "content": text, "refusal": None}
