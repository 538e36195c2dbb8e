"""The tokenizer files of a Hugging Face folder, with the control tokens and chat template named."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as InnerTokenizer

from gdpo_jax.errors import UserError
from gdpo_jax.files import write_beside
from gdpo_jax.policies.extras import as_user_error
from gdpo_jax.policies.files.json_files import read_json, write_json
from gdpo_jax.policies.files.tokenizer_fields import check_generation_fields, check_tokenizer_fields
from gdpo_jax.policies.tokenizer import (
    Tokenizer,
    check_id_of,
    read_tokenizer,
    wrap_tokenizer,
)

TEMPLATE = "chat_template.jinja"
MORE_TEMPLATES = "additional_chat_templates"
# How published chat templates end a turn. A model whose files name another end stops at these too.
TURN_ENDS = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<turn|>", "<|end|>", "<|eot|>",
)  # fmt: skip
ROLES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")


def load_hub_tokenizer(directory: str | Path, *, vocab_size: int | None = None) -> Tokenizer:
    """The tokenizer of a model's folder: tokenizer.json and what the files beside it say of it.

    Where files disagree, transformers' choice is followed: special_tokens_map.json counts only
    where tokenizer_config.json has no added_tokens_decoder, and templates in files of their own
    come before those in tokenizer_config.json.

    vocab_size: of the model, which may have more ids than the tokenizer has tokens.

    Raises UserError where a file is missing or malformed, a field may change ids or text and is not
    followed, no end token is named, an id is none, or the tokenizer has more tokens than the model.
    """
    directory = Path(directory)
    inner = read_tokenizer(directory / "tokenizer.json")
    where = directory / "tokenizer_config.json"
    about = _about(directory)
    _add_tokens(inner, about, directory)
    _check_prefix_space(inner, about, str(where))
    tokens = {name: text for name, text in _special_tokens(about, str(where))}
    for role in ("bos_token", "eos_token", "pad_token"):
        if role in tokens and inner.token_to_id(tokens[role]) is None:
            raise UserError(
                f"{where}: {role} {tokens[role]!r} is not in tokenizer.json: the tokenizer lacks "
                f"the control tokens {tokens[role]}"
            )
    if "eos_token" not in tokens:
        raise UserError(f"{where} names no eos_token")
    if about.get("split_special_tokens"):
        inner.encode_special_tokens = True
    template, named = _templates(directory, about)
    tokenizer = wrap_tokenizer(
        inner,
        pad=tokens.get("pad_token"),
        bos=tokens.get("bos_token"),
        eos=tokens["eos_token"],
        stop_ids=[
            *_named_ends(directory, inner, vocab_size),
            *turn_ends(inner, template, *named.values()),
        ],
        chat_template=template,
        vocab_size=vocab_size,
        adds_bos=about.get("add_bos_token") is True,
        named_templates=named,
        special_tokens=tokens,
    )
    if vocab_size is not None and tokenizer.vocab_size > vocab_size:
        raise UserError(
            f"{directory}: the tokenizer has {tokenizer.vocab_size} ids, the model {vocab_size}"
        )
    return tokenizer


def save_hub_tokenizer(directory: Path, tokenizer: Tokenizer) -> None:
    """Writes tokenizer.json, tokenizer_config.json and the chat templates."""
    tokenizer.save(directory / "tokenizer.json")
    ids = {"eos": tokenizer.eos_id, "pad": tokenizer.pad_id, "bos": tokenizer.bos_id}
    names = {
        f"{name}_token": tokenizer.inner.id_to_token(token_id)
        for name, token_id in ids.items()
        if token_id is not None
    }
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    # With this field the tokens of older files in the folder do not count.
    about["added_tokens_decoder"] = {
        str(i): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for i, token in sorted(tokenizer.inner.get_added_tokens_decoder().items())
    }
    if tokenizer.adds_bos:
        about["add_bos_token"] = True
    if tokenizer.inner.encode_special_tokens:
        about["split_special_tokens"] = True
    templates = dict(tokenizer.named_templates)
    if tokenizer.chat_template is not None:
        templates = {"default": tokenizer.chat_template, **templates}
    if set(templates) == {"default"}:
        write_beside(directory / TEMPLATE, templates["default"])
    else:
        # An older template would come before the list.
        (directory / TEMPLATE).unlink(missing_ok=True)
        if templates:
            about["chat_template"] = [
                {"name": name, "template": template} for name, template in templates.items()
            ]
    write_json(directory / "tokenizer_config.json", about | dict(tokenizer.special_tokens) | names)


def _read(path: Path) -> str:
    try:
        # Line ends as they are: templates print them.
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}") from error


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _about(directory: Path) -> dict[str, Any]:
    about = read_json(directory / "tokenizer_config.json")
    check_tokenizer_fields(about, str(directory / "tokenizer_config.json"))
    older = _optional(directory / "special_tokens_map.json")
    check_tokenizer_fields(older, str(directory / "special_tokens_map.json"))
    if about.get("added_tokens_decoder") is not None:
        return {**older, **about}
    return {**about, **{name: value for name, value in older.items() if value is not None}}


def _content(token: Any, what: str) -> str | None:
    """A token as these files name it: a string, or a record that holds one."""
    text = token.get("content") if isinstance(token, Mapping) else token
    if text is not None and not isinstance(text, str):
        raise UserError(f"{what} is a {type(text).__name__}, not a token")
    return text


def _special_tokens(about: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    """The names that templates know tokens by, and the tokens."""
    more = [about.get("extra_special_tokens"), about.get("model_specific_special_tokens")]
    for group in (about, *(group for group in more if isinstance(group, Mapping))):
        for name, value in group.items():
            ours = group is not about or name in ROLES or name.endswith("_token")
            if not ours or name in ("add_bos_token", "add_eos_token"):
                continue
            text = _content(value, f"{where}: {name}")
            if text is not None:
                yield name, text


def _add_tokens(inner: InnerTokenizer, about: Mapping[str, Any], directory: Path) -> None:
    """Adds the tokens that only the files beside tokenizer.json have, as transformers does.

    Raises UserError where these files give a token another id than tokenizer.json.
    """
    where = str(directory / "tokenizer_config.json")
    decoder = about.get("added_tokens_decoder")
    if decoder is not None:
        if not isinstance(decoder, Mapping):
            raise UserError(f"{where}: added_tokens_decoder is not an object")
        records = {_whole(key, f"{where}: added_tokens_decoder"): r for key, r in decoder.items()}
    else:
        where = str(directory / "added_tokens.json")
        records = {
            _whole(i, f"{where}: {token[:80]!r}"): {"content": token, "special": False}
            for token, i in _optional(directory / "added_tokens.json").items()
            if inner.token_to_id(token) != i
        }
    for i, record in sorted(records.items()):
        text = _content(record, f"{where}: token {i}")
        if text is None or not isinstance(record, Mapping):
            raise UserError(f"{where}: token {i} has no content")
        flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
        options = {name: record[name] for name in flags if type(record.get(name)) is bool}
        with as_user_error(f"{where}: token {i}"):
            inner.add_tokens([AddedToken(text, **options)])
        check_id_of(inner, text, i, where)
    more = [*_listed(about, "additional_special_tokens"), *_listed(about, "extra_special_tokens")]
    for token in more:
        text = _content(token, f"{directory}: an additional special token")
        if text and inner.token_to_id(text) is None:
            inner.add_tokens([AddedToken(text, special=True, normalized=False)])


def _check_prefix_space(inner: InnerTokenizer, about: Mapping[str, Any], where: str) -> None:
    """Some classes of transformers let this field replace tokenizer.json's, others do not."""
    said = about.get("add_prefix_space")
    if said is None or inner.pre_tokenizer is None:
        return
    rules = json.loads(inner.pre_tokenizer.__getstate__())
    for rule in rules.get("pretokenizers", [rules]):
        adds = {
            "ByteLevel": rule.get("add_prefix_space"),
            "Metaspace": rule.get("prepend_scheme") != "never",
        }.get(rule.get("type"))
        if adds is not None and adds is not said:
            raise UserError(
                f"{where}: add_prefix_space={said!r}, but tokenizer.json has {adds!r}; the ids of "
                "every text depend on it, make both the same"
            )


def _listed(about: Mapping[str, Any], name: str) -> list:
    return about[name] if isinstance(about.get(name), list) else []


def _whole(key: Any, what: str) -> int:
    try:
        return int(key)
    except (TypeError, ValueError):
        raise UserError(f"{what}: {key!r} is no token id") from None


def _templates(directory: Path, about: Mapping[str, Any]) -> tuple[str | None, dict[str, str]]:
    """The default template, and others by name."""
    named: dict[str, Any] = {}
    for path in sorted((directory / MORE_TEMPLATES).glob("*.jinja")):
        named[path.name.removesuffix(".jinja")] = _read(path)
    if (directory / TEMPLATE).is_file():
        named["default"] = _read(directory / TEMPLATE)
    where = directory / "chat_template.json"
    found = None if named else _optional(where).get("chat_template")
    if found is None and not named:
        where, found = directory / "tokenizer_config.json", about.get("chat_template")
    if isinstance(found, str):
        named = {"default": found}
    elif isinstance(found, Mapping):
        named = dict(found)
    elif isinstance(found, list):
        if not all(isinstance(entry, Mapping) and "name" in entry for entry in found):
            raise UserError(f"{where}: chat_template is a list of records with name and template")
        named = {entry["name"]: entry.get("template") for entry in found}
    elif found is not None:
        raise UserError(f"{where}: chat_template is a {type(found).__name__}, not a text")
    for name, template in named.items():
        if not isinstance(name, str) or not isinstance(template, str):
            raise UserError(f"{where}: the chat template {name!r} is not a text with a name")
    return named.pop("default", None), named


def _named_ends(directory: Path, inner: InnerTokenizer, vocab_size: int | None) -> Iterator[int]:
    """The end tokens that the model's own files name, every one."""
    size = vocab_size or max(inner.get_vocab(with_added_tokens=True).values()) + 1
    for name in ("generation_config.json", "config.json"):
        about = _optional(directory / name)
        if name == "generation_config.json":
            check_generation_fields(about, str(directory / name))
            for text in about.get("stop_strings") or ():
                token = inner.token_to_id(text) if isinstance(text, str) else None
                if token is None:
                    raise UserError(
                        f"{directory / name}: stop_strings has {text!r}, which is no single token; "
                        "completions end at tokens"
                    )
                yield token
        elif isinstance(about.get("text_config"), Mapping):
            about = {**about["text_config"], **about}
        found = about.get("eos_token_id")
        for token in found if isinstance(found, list) else [found]:
            if token is None:
                continue
            if type(token) is not int or not 0 <= token < size:
                raise UserError(
                    f"{directory / name}: eos_token_id has {token!r}; legal are whole numbers from "
                    f"0 to {size - 1}"
                )
            yield token


def turn_ends(inner: InnerTokenizer, *templates: str | None) -> Iterator[int]:
    """The tokens that end a turn in chat templates."""
    text = "".join(filter(None, templates))
    for token in TURN_ENDS:
        if token in text and inner.token_to_id(token) is not None:
            yield inner.token_to_id(token)


__all__ = ["load_hub_tokenizer", "save_hub_tokenizer", "turn_ends"]
