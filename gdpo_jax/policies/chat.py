"""Chat messages to the text a model was trained on, by the template that came with it.

Templates are programs of whoever published the model: they run in Jinja's immutable sandbox. No
clock reaches them, so the same messages always give the same text; templates that print today's
date print the one they hold for that case, or take it as a variable.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gdpo_jax.errors import UserError
from gdpo_jax.policies.extras import need
from gdpo_jax.policies.tokenizer import Tokenizer


def render_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    *,
    generation_prompt: bool = True,
    **variables: Any,
) -> str:
    """The text of `messages`, each with "role" and "content"; `tokenizer.encode` takes it as it is.

    generation_prompt: end with the beginning of the assistant's turn. variables: what a template
    knows besides, for instance `tools` or `enable_thinking`.

    Raises UserError for a tokenizer without a chat template, and for a template that is malformed
    or refuses these messages.
    """
    if tokenizer.chat_template is None:
        raise UserError(
            "the tokenizer has no chat template (chat_template.jinja, or chat_template in "
            "tokenizer_config.json); write the prompt as plain text, or add one"
        )
    jinja2 = need("jinja2", "rendering a chat template")
    sandbox = need("jinja2.sandbox", "rendering a chat template")
    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment.globals["raise_exception"] = refuse
    given = {
        "messages": [dict(message) for message in messages],
        "add_generation_prompt": generation_prompt,
        "bos_token": _token(tokenizer, tokenizer.bos_id),
        "eos_token": _token(tokenizer, tokenizer.eos_id),
        "pad_token": _token(tokenizer, tokenizer.pad_id),
    }
    try:
        return environment.from_string(tokenizer.chat_template).render(**(given | variables))
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        raise UserError(f"the chat template refuses these messages: {error}") from error


def _token(tokenizer: Tokenizer, token_id: int | None) -> str:
    return "" if token_id is None else tokenizer.inner.id_to_token(token_id)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **more: Any) -> str:
    """Jinja's own filter would escape HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)
