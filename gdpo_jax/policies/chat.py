"""Chat messages to the text a model was trained on, by the template that came with it.

Templates are programs of whoever published the model: they run in a sandbox with a budget
(`template_sandbox`), on the variables that transformers gives them. No clock reaches them, so the
same messages always give the same text; a date comes from the caller.
"""

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from gdpo_jax.errors import UserError
from gdpo_jax.policies.template_budget import TemplateLimit
from gdpo_jax.policies.template_sandbox import compile_template, render_template
from gdpo_jax.policies.tokenizer import Tokenizer

LONGEST_DATE = 200  # characters of the form of a date
MOST_SHOWN = 400  # characters of what a template says in an error


def render_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    *,
    generation_prompt: bool = True,
    tools: Sequence[Mapping[str, Any]] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
    today: datetime.date | None = None,
    template: str | None = None,
    **variables: Any,
) -> str:
    """The text of `messages`, each with "role" and "content"; `tokenizer.encode` takes it as it is.

    generation_prompt: end with the beginning of the assistant's turn. tools, documents: what the
      template may offer to the model, as JSON values. today: the date for templates that print one
      (`strftime_now`); those that can do without print the one they hold for that case.
    template: the name of another template of the tokenizer; without it, "tool_use" with tools where
      there is one, else the default. variables: what a template knows besides, for instance
      `enable_thinking`.

    Raises UserError for a tokenizer without such a template, messages that are no mappings, and a
    template that is malformed, refuses these messages, fails on them, does not end, or asks for a
    date that is not given.
    """
    source = _source(tokenizer, tools, template)
    if isinstance(messages, (str, Mapping)) or not isinstance(messages, Sequence):
        raise UserError(f"messages are a list of mappings, not a {type(messages).__name__}")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise UserError(
                f"message {index} is a {type(message).__name__}, not a mapping with role and "
                "content"
            )
    asked = "the date (strftime_now); give render_chat(..., today=datetime.date(...))"
    clock = jinja2.Undefined(f"the template prints {asked}")
    if today is not None:
        clock = _clock(today)
    given = {
        **tokenizer.special_tokens,
        "messages": [dict(message) for message in messages],
        "tools": tools,
        "documents": documents,
        "add_generation_prompt": generation_prompt,
        "strftime_now": clock,
        **variables,
    }
    try:
        compile_template(source)
    except TemplateLimit as error:
        raise UserError(f"the chat template is refused: {error}") from error
    except Exception as error:  # Jinja's parser and Python's compiler raise many kinds
        line = getattr(error, "lineno", None)
        where = f", line {line}" if line else ""
        raise UserError(f"the chat template is malformed{where}: {_shown(error)}") from error
    try:
        return render_template(source, given)
    except TemplateLimit as error:
        raise UserError(f"the chat template is stopped: {error}") from error
    except jinja2.UndefinedError as error:
        if asked in str(error):
            raise UserError(
                f"the chat template asks for {asked}, or pass strftime_now= as a variable"
            ) from error
        raise _failed(error) from error
    except Exception as error:
        if type(error) is jinja2.TemplateError:  # raise_exception of the template
            raise UserError(f"the chat template refuses these messages: {_shown(error)}") from error
        raise _failed(error) from error


def _source(tokenizer: Tokenizer, tools: Any, name: str | None) -> str:
    named = dict(tokenizer.named_templates)
    if tokenizer.chat_template is not None:
        named["default"] = tokenizer.chat_template
    if not named:
        raise UserError(
            "the tokenizer has no chat template (chat_template.jinja, or chat_template in "
            "tokenizer_config.json); write the prompt as plain text, or add one"
        )
    if name is None:
        name = "tool_use" if tools is not None and "tool_use" in named else "default"
    if name not in named:
        raise UserError(
            f"the tokenizer has no chat template {name!r}; give render_chat(..., template=) one "
            f"of {', '.join(sorted(named))}"
        )
    return named[name]


def _clock(today: datetime.date) -> Any:
    def strftime_now(form: str) -> str:
        if len(form) > LONGEST_DATE or re.search(r"%[^a-zA-Z%]*\d", form):
            raise ValueError(f"strftime_now takes no such form: {form[:80]!r}")
        return today.strftime(form)

    return strftime_now


def _failed(error: Exception) -> UserError:
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    where = "" if line is None else f" in line {line}"
    return UserError(
        f"the chat template fails on these messages{where}: {type(error).__name__}: {_shown(error)}"
    )


def _shown(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]} ..."


__all__ = ["render_chat"]
