"""What a user calls a prompt, as token ids; which prompts fit, and how wide their rows are."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from gdpo_jax.errors import UserError
from gdpo_jax.policies import Tokenizer, render_chat
from gdpo_jax.token_ids import check_token_ids

__all__ = [
    "Fitted",
    "Prompt",
    "PromptFunction",
    "TooLong",
    "completion_encoder",
    "encode_prompt",
    "fit_rows",
    "make_buckets",
    "prompt_encoder",
    "record_reader",
]

Prompt = str | Sequence[Mapping[str, Any]] | Sequence[int]
PromptFunction = str | Callable[[Any], Prompt]
TooLong = Literal["leave_out", "error"]

_STEP = 8  # widths are multiples of it
_WORTH = 0.75  # a narrower width pays where it is at most this share of the next


class Fitted(NamedTuple):
    """Records whose rows fit, in order, the widths of each of their parts, and how many do not."""

    records: list[Any]
    buckets: tuple[tuple[int, ...], ...]
    left_out: int


def prompt_encoder(tokenizer: Tokenizer, prompt: PromptFunction) -> Callable[[Any], list[int]]:
    """`encode(record)`: the token ids of the prompt that `prompt` gives of a record.

    prompt: a field's name, or a function of the record that gives text, chat messages or token ids.
    Text is taken as it is, behind the begin token where the model's own tokenizer puts one; chat
    messages go through the model's chat template, up to the beginning of the answer.

    `encode` raises UserError for a prompt of another kind or an empty one, messages the template
    refuses, and ids the tokenizer does not have.
    """
    read = record_reader(prompt, "prompt")

    def encode(record: Any) -> list[int]:
        return encode_prompt(tokenizer, read(record))

    return encode


def encode_prompt(tokenizer: Tokenizer, given: Prompt) -> list[int]:
    """The token ids of a prompt: text, chat messages or ids; errors as in `prompt_encoder`."""
    if isinstance(given, str):
        ids = tokenizer.with_bos(tokenizer.encode(given))
    elif is_chat(given):
        ids = tokenizer.encode(render_chat(tokenizer, given))
    else:
        ids = _token_ids(tokenizer, given)
    if not ids:
        raise UserError(f"the prompt {given!r} has no tokens; give some text")
    return ids


def is_chat(given: Any) -> bool:
    """Are these chat messages: a list of mappings?"""
    return (
        isinstance(given, Sequence)
        and not isinstance(given, str | bytes)
        and len(given) > 0
        and all(isinstance(message, Mapping) for message in given)
    )


def completion_encoder(
    tokenizer: Tokenizer,
    prompt: PromptFunction,
    completion: str | Callable[[Any], Any] | None,
    label: str | Callable[[Any], int] | None = None,
) -> Callable[[Any], tuple]:
    """`encode(record)`: the token ids of a prompt and of the answer to imitate, its end included,
    and the label where one is asked for.

    completion: a field's name, or a function of the record that gives text, or token ids as they
    are; None for prompts alone. label: a field's name, or a function of the record. After chat
    messages an answer ends as the chat template ends it, elsewhere with the end token.
    """
    read_prompt = record_reader(prompt, "prompt")
    read_label = None if label is None else record_reader(label, "label")
    read_completion = (lambda record: ()) if completion is None else completion
    read_completion = record_reader(read_completion, "completion")

    def encode(record: Any) -> tuple:
        label = () if read_label is None else (read_label(record),)
        return *pair(record), *label

    def pair(record: Any) -> tuple[list[int], list[int]]:
        asked, answer = read_prompt(record), read_completion(record)
        if not isinstance(answer, str):
            return encode_prompt(tokenizer, asked), _token_ids(tokenizer, answer)
        end = tokenizer.eos_id
        if is_chat(asked):
            end = _end_of_turn(tokenizer, asked, answer)
        return encode_prompt(tokenizer, asked), [*tokenizer.encode(answer), end]

    return encode


def _end_of_turn(tokenizer: Tokenizer, messages: Sequence[Mapping], answer: str) -> int:
    """The first token behind the answer, in the template's text, that ends an answer."""
    turn = [*messages, {"role": "assistant", "content": answer}]
    text = render_chat(tokenizer, turn, generation_prompt=False)
    behind = text.rpartition(answer)[2]
    stops = set(tokenizer.stop_ids) or {tokenizer.eos_id}
    return next((i for i in tokenizer.encode(behind) if i in stops), tokenizer.eos_id)


def record_reader(given: Any, what: str) -> Callable[[Any], Any]:
    """The function of a record that `given` is, or that reads the field of that name.

    what: it is called in errors. Raises UserError for anything else, and the function for a record
    without the field.
    """
    if callable(given):
        return given
    if not isinstance(given, str):
        raise UserError(f"{what}={given!r}: give a field's name, or a function of the record")

    def field(record: Any) -> Any:
        if not isinstance(record, Mapping) or given not in record:
            fields = sorted(map(str, record)) if isinstance(record, Mapping) else type(record)
            raise UserError(f"the record has no field {given!r} for the {what}; it has {fields}")
        return record[given]

    return field


def _token_ids(tokenizer: Tokenizer, given: Any) -> list[int]:
    if isinstance(given, str | bytes) or not isinstance(given, Sequence | np.ndarray):
        raise UserError(
            "a prompt or completion is text, a list of chat messages or a list of token ids; got "
            f"{str(given)[:80]!r} ({type(given).__name__})"
        )
    check_token_ids(given, tokenizer.vocab_size, "a prompt or completion")
    return [int(token) for token in given]


def fit_rows(
    records: Sequence[Any],
    encode: Callable[[Any], Sequence[Sequence[int]]],
    *,
    buckets: Sequence[Sequence[int] | None],
    positions: int,
    batch_size: int,
    too_long: TooLong,
    names: Sequence[str],
) -> Fitted:
    """The records whose rows fit, and the widths: `buckets` where given, else made from the rows.

    encode: the parts of a row (a prompt; a prompt and a completion), `names` what errors call them.
    positions: how many all parts of a row have together. too_long: "leave_out" counts rows that do
    not fit, "error" raises.

    Raises UserError for no record, a record that cannot be encoded (names it), and where nothing
    fits.
    """
    if too_long not in ("leave_out", "error"):
        raise UserError(f"too_long={too_long!r} is unknown; use 'leave_out' or 'error'")
    if not len(records):
        raise UserError("there are no records; give at least one batch of them")
    lengths = np.array([_lengths(encode, records[i], i) for i in range(len(records))])
    limits = [max(given) if given else positions for given in buckets]
    fits = (lengths <= limits).all(axis=1) & (lengths.sum(axis=1) <= positions)
    if not fits.any() or (too_long == "error" and not fits.all()):
        first = int(np.flatnonzero(~fits)[0])
        sizes = ", ".join(f"{name} {size}" for name, size in zip(names, lengths[first]))
        raise UserError(
            f"{(~fits).sum()} of {len(records)} records do not fit; record {first} has tokens: "
            f"{sizes}, legal are at most {', '.join(map(str, limits))} and {positions} together. "
            "Shorten them, name wider buckets, lower max_new_tokens, or leave them out "
            "(too_long='leave_out')"
        )
    kept = [records[i] for i in np.flatnonzero(fits)]
    widths = tuple(
        tuple(given) if given else make_buckets(column, batch_size=batch_size, most=limit)
        for given, column, limit in zip(
            buckets, lengths[fits].T, _shares_of(positions, lengths[fits])
        )
    )
    return Fitted(kept, widths, int((~fits).sum()))


def _shares_of(positions: int, lengths: np.ndarray) -> list[int]:
    """How wide each part may become, so that the widest of all parts fit together."""
    longest = lengths.max(axis=0)
    return [int(positions - (longest.sum() - own)) for own in longest]


def _lengths(encode: Callable[[Any], Sequence[Sequence[int]]], record: Any, index: int) -> list:
    try:
        return [len(part) for part in encode(record)]
    except UserError as error:
        raise UserError(f"record {index}: {error}") from error
    except KeyError as error:
        fields = sorted(map(str, record)) if isinstance(record, Mapping) else type(record).__name__
        raise UserError(
            f"record {index}: the prompt function asks for the field {error}, and the record has "
            f"{fields}"
        ) from error
    except Exception as error:
        raise UserError(
            f"record {index}: the prompt function raised {type(error).__name__}: {error}"
        ) from error


def make_buckets(lengths: Sequence[int], *, batch_size: int, most: int) -> tuple[int, ...]:
    """One or two widths for batches of rows with these lengths; each width compiles once.

    The wider one holds all rows; the narrower one holds half of the batches, and is left out where
    it would save little. most: the widest that is legal.
    """
    ordered = np.sort(np.asarray(lengths))
    widest = min(_round_up(ordered[-1]), most)
    # A batch is as wide as its longest row: half of the batches have all rows below this share.
    share = 0.5 ** (1 / batch_size)
    narrow = _round_up(ordered[min(math.ceil(share * len(ordered)), len(ordered)) - 1])
    return (narrow, widest) if narrow <= _WORTH * widest else (widest,)


def _round_up(size: int) -> int:
    return -(-int(size) // _STEP) * _STEP
