"""Makes templates.json: conversations as transformers' chat templates render them.

    pip install transformers==4.57.1 jinja2==3.1.6
    python templates.py

The templates are those in templates/: SmolLM2's and Qwen's (Apache-2.0) as published, the others are
short ones with what further families' use.
"""
import datetime, json, pathlib
from transformers.utils import chat_template_utils

NOW = 1_700_000_000
CHATML = dict(special=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], tokens={"eos_token": "<|im_end|>"})
TEMPLATES = {
    "smollm2": CHATML | dict(tokens={"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}),
    "qwen2.5": CHATML, "qwen3": CHATML,
    "own-dates": dict(special=["<|bos|>", "<|head|>", "<|/head|>", "<|eot|>"], tokens={"bos_token": "<|bos|>"}),
    "own-turns": dict(special=["<bos>", "<start>", "<end>"], tokens={"bos_token": "<bos>"}),
    "own-python": dict(special=["</s>"], tokens={"eos_token": "</s>"}),
}
S, U, A = ("system", "user", "assistant")
CHATS = [
    [(U, "Hello!")],
    [(S, "You are terse."), (U, "  What is 2 + 2?\n"), (A, "4"), (U, "再见 🎉 <b>&amp;</b>")],
    [(U, "a|b|\n c "), (A, "<think>\nhm, 1 < 2\n</think>\n\nYes. "), (U, "skip this"), (A, "</think> odd"), (U, "stop"), (U, "x")],
    [(A, "I speak first."), (U, "")],
    [(U, "ends in <"), (A, "> begins"), (U, "<tool_response>\n7\n</tool_response>")],
    [(U, "x"), ("tool", "7"), (A, "seven")],
    [(S, "")],
]


def render(source, tokens, chat, prompt):
    template = chat_template_utils._compile_jinja_template(source)
    now = datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc)
    messages = [dict(role=role, content=content) for role, content in chat]
    return template.render(messages=messages, tools=None, documents=None, add_generation_prompt=prompt,
                           strftime_now=now.strftime, **tokens)


here = pathlib.Path(__file__).parent
cases = []
for name, given in TEMPLATES.items():
    source = (here / "templates" / f"{name}.jinja").read_text()
    for chat in CHATS:
        for prompt in [False, True]:
            case = dict(template=name, chat=chat, prompt=prompt)
            try:
                case["text"] = render(source, given["tokens"], chat, prompt)
            except Exception as error:
                case["error"] = str(error)
            cases.append(case)
lines = ",\n  ".join(json.dumps(case, ensure_ascii=False) for case in cases)
(here / "templates.json").write_text(f'{{"now": {NOW}, "templates": {json.dumps(TEMPLATES)},\n "cases": [\n  {lines}]}}\n')
