"""Converses with a served user through OpenAI's own client, as a harness for assistants does.

Usage: client.py URL. Ends with an error if an answer is not as the protocol says.
"""

import asyncio
import sys

import openai
from openai import AsyncOpenAI, OpenAI

ASSISTANT = "Of course. Which one do you mean?"


def converse(client, turns):
    """A conversation between the served user and an assistant that always says the same."""
    messages = [
        {"role": "system", "content": "You want to bake a cake."},
        {"role": "user", "content": "Hi! How can I help you today?"},
    ]
    for turn in range(turns):
        answer = client.chat.completions.create(model="past", messages=messages, seed=turn, max_tokens=30)
        choice = answer.choices[0]
        assert choice.finish_reason in ("stop", "length"), choice
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        messages += [{"role": "assistant", "content": choice.message.content}, {"role": "user", "content": ASSISTANT}]
    return [message["content"] for message in messages if message["role"] == "assistant"]


def stream(client, messages, **options):
    """The text, the log-probabilities and the usage of a streamed answer."""
    text, logprobs, usage = "", [], None
    for chunk in client.chat.completions.create(
        model="past", messages=messages, stream=True, logprobs=True, stream_options={"include_usage": True}, **options
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            logprobs += [token.logprob for token in (choice.logprobs.content or [])]
    return text, logprobs, usage


def refused(kind, code, call):
    try:
        call()
    except kind as error:
        assert error.code == code, error
        return
    raise AssertionError(f"{kind.__name__} was expected")


async def side_by_side(url, messages, seeds):
    async with AsyncOpenAI(base_url=url, api_key="none") as client:
        calls = [
            client.chat.completions.create(model="past", messages=messages, seed=seed, max_tokens=30) for seed in seeds
        ]
        return [answer.choices[0].message.content for answer in await asyncio.gather(*calls)]


def main(url):
    client = OpenAI(base_url=url, api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == ["past", "past:reaction"]
    said = converse(client, 4)
    assert said == converse(client, 4), "the same seeds give the same conversation"

    messages = [{"role": "user", "content": "Hi! How can I help you today?"}]
    options = {"seed": 3, "max_tokens": 30}
    whole = client.chat.completions.create(model="past", messages=messages, logprobs=True, top_logprobs=3, **options)
    text, logprobs, usage = stream(client, messages, **options)
    assert text == whole.choices[0].message.content
    assert logprobs == [token.logprob for token in whole.choices[0].logprobs.content]
    assert all(len(token.top_logprobs) == 3 for token in whole.choices[0].logprobs.content)
    assert usage == whole.usage

    alone = [
        client.chat.completions.create(model="past", messages=messages, seed=seed, max_tokens=30)
        .choices[0].message.content
        for seed in range(12)
    ]
    assert asyncio.run(side_by_side(url, messages, range(12))) == alone, "side by side as alone"

    reaction = client.chat.completions.create(model="past:reaction", messages=messages, max_tokens=30)
    assert reaction.choices[0].message.role == "assistant"

    create = client.chat.completions.create
    refused(openai.NotFoundError, "model_not_found", lambda: create(model="gpt-4o", messages=messages))
    refused(openai.BadRequestError, None, lambda: create(model="past", messages=messages, frequency_penalty=1.0))
    refused(
        openai.BadRequestError, "context_length_exceeded",
        lambda: create(model="past", messages=messages, max_tokens=100_000),
    )
    print(f"openai {openai.__version__}: {len(said)} turns, streams, log-probabilities, 12 texts side by side, refusals")


if __name__ == "__main__":
    main(sys.argv[1])
