"""The fields of a tokenizer.json that are looked at before the library reads it."""

from collections.abc import Iterator, Mapping
from typing import Any

from gdpo_jax.errors import UserError

# Every field, and who honours it.
FIELDS = {
    "version": "of the format",
    "truncation": "left out: transformers cuts only where it is asked to",
    "padding": "left out: rows are padded by the trainer",
    "added_tokens": "by the library; their ids are compared",
    "normalizer": "by the library",
    "pre_tokenizer": "by the library",
    "post_processor": "says whether plain text begins with the begin token",
    "decoder": "by the module `decoding`",
    "model": "by the library, without dropout",
}
LONGEST_TOKEN = 65_536
LONGEST_RULE = 10_000
MOST_GROWTH = 4_096  # times that normalizers may lengthen a text


def check_tokenizer_file(about: Any, where: str) -> None:
    """Raises UserError for a field that is not known, drops pieces at random, or blows up texts."""
    if not isinstance(about, dict) or not isinstance(about.get("model"), dict):
        raise UserError(f"{where} is not a tokenizer.json: it has no model")
    unknown = sorted(set(about) - set(FIELDS))
    if unknown:
        raise UserError(f"{where}: the field {unknown[0]!r} is not known")
    if about["model"].get("dropout"):
        raise UserError(
            f"{where}: model.dropout={about['model']['dropout']!r} gives the same text other ids "
            "each time; set it to null"
        )
    added = about.get("added_tokens") or []
    if not isinstance(added, list):
        raise UserError(f"{where}: added_tokens is not a list")
    for index, token in enumerate(added):
        if (
            not isinstance(token, dict)
            or not isinstance(token.get("content"), str)
            or (type(token.get("id")) is not int)
        ):
            raise UserError(f"{where}: added_tokens[{index}] has no content or no whole id")
    vocab = about["model"].get("vocab") or {}
    tokens = list(vocab) if isinstance(vocab, dict) else []
    for token in [*tokens, *(token["content"] for token in added)]:
        if len(token) > LONGEST_TOKEN:
            raise UserError(
                f"{where}: the token {token[:40]!r} ... has {len(token)} characters; legal are "
                f"{LONGEST_TOKEN}"
            )
    growth = 1
    for section in ("normalizer", "pre_tokenizer", "decoder", "post_processor"):
        for name, value, kind in _leaves(about.get(section), section):
            if (
                isinstance(value, str)
                and len(value) > LONGEST_RULE
                and (not name.endswith("precompiled_charsmap"))
            ):
                raise UserError(f"{where}: {name} has {len(value)} characters")
            if section == "normalizer" and kind == "Replace" and name.endswith("content"):
                growth *= max(1, len(value) if isinstance(value, str) else 1)
    if growth > MOST_GROWTH:
        raise UserError(
            f"{where}: the normalizers can make a text {growth} times longer; legal are "
            f"{MOST_GROWTH}"
        )


def _leaves(value: Any, name: str, kind: Any = None) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(value, Mapping):
        kind = value.get("type", kind)
        for key, part in value.items():
            yield from _leaves(part, f"{name}.{key}", kind)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _leaves(part, f"{name}[{index}]", kind)
    else:
        yield name, value, kind


__all__ = ["FIELDS", "check_tokenizer_file"]
