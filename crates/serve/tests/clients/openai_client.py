"""What people do with the `openai` package, done to a server with a small model of random weights.

Usage: openai_client.py ADDRESS. What the model says makes no sense, so its shape is what is held to.
"""

import json
import math
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
model = client.models.list().data[0].id
assert client.models.retrieve(model).id == model
messages = [{"role": "user", "content": "Where is the cat?"}]
settings = {"model": model, "messages": messages, "seed": 5, "max_tokens": 20}

# An answer, and the same in pieces.
whole = client.chat.completions.create(**settings)
assert whole.object == "chat.completion" and whole.choices[0].message.role == "assistant"
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
text, usage, finish = "", None, None
for chunk in client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True}):
    usage = chunk.usage or usage
    for choice in chunk.choices:
        text += choice.delta.content or ""
        finish = choice.finish_reason or finish
assert text == whole.choices[0].message.content, (text, whole)
assert finish == whole.choices[0].finish_reason
assert usage.completion_tokens == whole.usage.completion_tokens
assert usage.prompt_tokens_details.cached_tokens > 0, "the prompt was seen before"
with client.chat.completions.stream(**settings) as stream:
    assert [event.content for event in stream if event.type == "content.done"] == [text]

# The newer interface, as the package's own first example has it.
asked = {"model": model, "instructions": "You talk like a pirate.", "input": "Where is the cat?", "max_output_tokens": 20}
response = client.responses.create(**asked, extra_body={"seed": 5})
assert response.output_text and response.usage.input_tokens > 0 and response.status in ("completed", "incomplete")
deltas = []
for event in client.responses.create(**asked, extra_body={"seed": 5}, stream=True):
    if event.type == "response.output_text.delta":
        deltas.append(event.delta)
    last = event
assert "".join(deltas) == response.output_text == last.response.output_text
assert last.type == f"response.{response.status}"
developer = [{"role": "developer", "content": "You talk like a pirate."}, messages[0]]
spoken = client.chat.completions.create(**settings | {"messages": developer})
assert spoken.choices[0].message.content == response.output_text, "a developer is a system"

# Several answers, where they end, and how likely they are.
several = client.chat.completions.create(**settings, n=3, temperature=1.5)
assert [choice.index for choice in several.choices] == [0, 1, 2]
likely = client.chat.completions.create(**settings, logprobs=True, top_logprobs=4, temperature=0)
tokens = likely.choices[0].logprobs.content
assert len(tokens) == likely.usage.completion_tokens
for token in tokens:
    assert token.token == token.top_logprobs[0].token, "greedy"
    assert sum(math.exp(other.logprob) for other in token.top_logprobs) <= 1 + 1e-6
biased = client.chat.completions.create(**settings, logit_bias={"33": 100})
assert len(set(biased.choices[0].message.content)) == 1, biased

# Tools: called when they have to be, in pieces too.
weather = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "How the weather is",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string", "maxLength": 8}, "days": {"type": "integer", "maximum": 9, "minimum": 0}},
            "required": ["place", "days"],
            "additionalProperties": False,
        },
    },
}
settings["max_tokens"] = 200
called = client.chat.completions.create(**settings, tools=[weather], tool_choice="required")
call = called.choices[0].message.tool_calls[0]
assert called.choices[0].finish_reason == "tool_calls" and call.type == "function"
arguments = json.loads(call.function.arguments)
assert call.function.name == "weather" and set(arguments) == {"place", "days"}, arguments
pieces = [
    call
    for chunk in client.chat.completions.create(**settings, tools=[weather], tool_choice="required", stream=True)
    for choice in chunk.choices
    for call in choice.delta.tool_calls or []
]
assert "".join(piece.function.arguments or "" for piece in pieces) == call.function.arguments
flat = weather["function"] | {"type": "function"}
response = client.responses.create(
    model=model, input=messages, tools=[flat], tool_choice="required", max_output_tokens=200, extra_body={"seed": 5}
)
asked = response.output[0]
assert (asked.type, asked.name, asked.arguments) == ("function_call", "weather", call.function.arguments)
events = client.responses.create(
    model=model, input=messages, tools=[flat], tool_choice="required", max_output_tokens=200, extra_body={"seed": 5}, stream=True
)
done = [event.item for event in events if event.type == "response.output_item.done"]
assert [(item.type, item.arguments) for item in done] == [("function_call", asked.arguments)]
result = {"type": "function_call_output", "call_id": asked.call_id, "output": "sunny"}
told = client.responses.create(model=model, input=[*messages, asked, result], max_output_tokens=10)
assert told.output[0].type == "message"

settings["messages"] = messages + [
    {"role": "assistant", "tool_calls": [call.model_dump()]},
    {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
]
assert client.chat.completions.create(**settings, tools=[weather], tool_choice="none").choices[0].message.tool_calls is None

# A schema.
schema = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "big": {"type": "boolean"}},
    "required": ["colour", "big"],
    "additionalProperties": False,
}
answer = client.chat.completions.create(
    model=model,
    messages=messages,
    max_tokens=200,
    response_format={"type": "json_schema", "json_schema": {"name": "thing", "schema": schema, "strict": True}},
)
thing = json.loads(answer.choices[0].message.content)
assert thing["colour"] in ("red", "green") and isinstance(thing["big"], bool)

# The older interface.
settings = {"model": model, "prompt": "The cat sat", "max_tokens": 8, "temperature": 0}
completion = client.completions.create(**settings, echo=True, logprobs=2)
assert completion.choices[0].text.startswith("The cat sat")
lists = completion.choices[0].logprobs
assert lists.token_logprobs[0] is None and len(lists.tokens) == completion.usage.total_tokens
assert "".join(lists.tokens).startswith("The cat sat") and lists.text_offset == sorted(lists.text_offset)
pieces = client.completions.create(**settings, stream=True)
assert "The cat sat" + "".join(piece.choices[0].text for piece in pieces) == completion.choices[0].text

# Vectors; the package asks for base64 unless told otherwise.
vectors = client.embeddings.create(model="vectors", input=["the cat sat", "dogs ran"])
plain = client.embeddings.create(model="vectors", input="the cat sat", encoding_format="float", dimensions=16)
assert [len(one.embedding) for one in vectors.data] == [64, 64] and len(plain.data[0].embedding) == 16
cosine = sum(a * b for a, b in zip(plain.data[0].embedding, vectors.data[0].embedding))
assert cosine > 0 and abs(sum(a * a for a in vectors.data[0].embedding) - 1) < 1e-5

# What can't be done is told in the package's own errors.
for wrong, error in [
    ({"model": "other"}, openai.NotFoundError),
    ({"temperature": -1}, openai.BadRequestError),
    ({"messages": []}, openai.BadRequestError),
]:
    try:
        client.chat.completions.create(**{"model": model, "messages": messages} | wrong)
    except error as told:
        assert told.body["message"], told
    else:
        raise AssertionError(f"{wrong} was accepted")
print(f"openai {openai.__version__}: all of it works")
