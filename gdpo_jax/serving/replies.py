"""What the server says of drawn completions, whole or as a stream, in OpenAI's objects.

Beyond the protocol stand `token_ids` where they are asked for, `parameters_version`, and beside the
log-probs those of what top-k, top-p or min-p left (`sampled_token_logprobs`).
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from gdpo_jax.policies import Tokenizer
from gdpo_jax.serving.drawing import Drawn
from gdpo_jax.serving.objects import LAST_EVENT, event, head, usage_object
from gdpo_jax.serving.requests import Asked

__all__ = ["About", "Choice", "choices_of", "chunks", "whole"]


class About(NamedTuple):
    """Of one answer: its name, model and time, the version of its parameters, and its protocol."""

    name: str
    model: str
    created: int
    version: int
    chat: bool

    def head(self, *, stream: bool = False) -> dict[str, Any]:
        """What the answer, and each chunk of it, begins with."""
        kind = "chat.completion" if self.chat else "text_completion"
        if self.chat and stream:
            kind += ".chunk"
        start = head(kind, self.name, self.model, self.created)
        return {**start, "parameters_version": self.version}


class Choice(NamedTuple):
    """One completion as text.

    starts: where the text of each token begins, and where the last one ends. reason: "stop" (a stop
    token, or a text of `stop`) or "length".
    """

    text: str
    starts: list[int]
    drawn: Drawn
    reason: str


def choices_of(
    tokenizer: Tokenizer, completions: Sequence[Sequence[Drawn]], stop: Sequence[str]
) -> list[Choice]:
    """All completions of all prompts, in order, each cut before the first text of `stop`."""
    return [_choice(tokenizer, drawn, stop) for samples in completions for drawn in samples]


def _choice(tokenizer: Tokenizer, drawn: Drawn, stop: Sequence[str]) -> Choice:
    ids = drawn.token_ids[:-1] if drawn.finished else drawn.token_ids
    text = tokenizer.decode(ids)
    starts = [start for start, _ in tokenizer.token_spans(ids)]
    starts += [len(text)] * (len(drawn.token_ids) - len(ids))
    end = min((at for word in stop if (at := text.find(word)) >= 0), default=None)
    if end is None:
        return Choice(text, [*starts, len(text)], drawn, "stop" if drawn.finished else "length")
    # Tokens behind the end are as if they had never been drawn.
    kept = sum(start < end for start in starts)
    cut = Drawn(
        drawn.token_ids[:kept],
        drawn.log_probs[:kept],
        drawn.sampled_log_probs and drawn.sampled_log_probs[:kept],
        False,
    )
    return Choice(text[:end], [*starts[:kept], end], cut, "stop")


def whole(
    about: About, asked: Asked, tokenizer: Tokenizer, choices: Sequence[Choice]
) -> dict[str, Any]:
    """The answer as one object."""
    objects = []
    for index, choice in enumerate(choices):
        tokens = range(len(choice.drawn.token_ids))
        said: dict[str, Any] = {"text": choice.text}
        if about.chat:
            said = {"message": {"role": "assistant", "content": choice.text, "refusal": None}}
        objects.append(
            {
                "index": index,
                **said,
                **_of_tokens(about, asked, tokenizer, choice, tokens),
                "finish_reason": choice.reason,
            }
        )
    usage = _usage(asked, choices)
    return {**about.head(), "choices": objects, "usage": usage}


def chunks(
    about: About, asked: Asked, tokenizer: Tokenizer, choices: Sequence[Choice]
) -> Iterator[bytes]:
    """The events of a stream, a token each. All of it is drawn before the first one is sent."""
    start = about.head(stream=True)

    def chunk(index: int, said: dict[str, Any], more: dict[str, Any], reason: str | None) -> bytes:
        choice = {"index": index, **said, **more, "finish_reason": reason}
        return event({**start, "choices": [choice]})

    for index, choice in enumerate(choices):
        if about.chat:
            delta = {"role": "assistant", "content": ""}
            yield chunk(index, {"delta": delta}, {"logprobs": None}, None)
        for token in range(len(choice.drawn.token_ids)):
            text = choice.text[choice.starts[token] : choice.starts[token + 1]]
            said = {"delta": {"content": text}} if about.chat else {"text": text}
            more = _of_tokens(about, asked, tokenizer, choice, range(token, token + 1))
            yield chunk(index, said, more, None)
        said = {"delta": {}} if about.chat else {"text": ""}
        yield chunk(index, said, {"logprobs": None}, choice.reason)
    if asked.usage:
        yield event({**start, "choices": [], "usage": _usage(asked, choices)})
    yield LAST_EVENT


def _usage(asked: Asked, choices: Sequence[Choice]) -> dict[str, int]:
    drawn = sum(len(choice.drawn.token_ids) for choice in choices)
    return usage_object(sum(map(len, asked.prompts)), drawn)


def _of_tokens(
    about: About, asked: Asked, tokenizer: Tokenizer, choice: Choice, tokens: range
) -> dict[str, Any]:
    """Log-probs and ids of some tokens of a choice, as far as they are asked for."""
    drawn, places = choice.drawn, slice(tokens.start, tokens.stop)
    ids = drawn.token_ids[places]
    more: dict[str, Any] = {"token_ids": ids} if asked.token_ids else {}
    if not asked.log_probs:
        return {"logprobs": None, **more}
    log_probs = drawn.log_probs[places]
    if about.chat:
        content = [
            {**_named(tokenizer, token), "logprob": log_prob, "top_logprobs": []}
            for token, log_prob in zip(ids, log_probs)
        ]
        found: dict[str, Any] = {"content": content, "refusal": None}
    else:
        found = {
            "tokens": [_named(tokenizer, token)["token"] for token in ids],
            "token_logprobs": log_probs,
            "top_logprobs": None,
            "text_offset": choice.starts[places],
        }
    if drawn.sampled_log_probs is not None:
        found["sampled_token_logprobs"] = drawn.sampled_log_probs[places]
    return {"logprobs": found, **more}


def _named(tokenizer: Tokenizer, token: int) -> dict[str, Any]:
    """A token as text, and its bytes; control tokens have a name and no bytes."""
    piece = tokenizer.pieces[token] if token < len(tokenizer.pieces) else b""
    name = piece.decode("utf-8", "replace") or tokenizer.inner.id_to_token(token) or ""
    return {"token": name, "bytes": list(piece)}
