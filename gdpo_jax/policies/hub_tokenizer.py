"""The tokenizer files of a Hugging Face folder, with the control tokens and chat template named."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gdpo_jax.errors import UserError
from gdpo_jax.policies.json_files import read_json, write_json
from gdpo_jax.policies.tokenizer import Tokenizer, read_tokenizer, wrap_tokenizer

TEMPLATE = "chat_template.jinja"


def load_hub_tokenizer(directory: str | Path, *, vocab_size: int | None = None) -> Tokenizer:
    """The tokenizer of a model's folder: tokenizer.json and what tokenizer_config.json says of it.

    vocab_size: of the model, which may have more ids than the tokenizer has tokens.

    Raises UserError where a file is missing or malformed, no end token is named, or the tokenizer
    has more tokens than the model.
    """
    directory = Path(directory)
    inner = read_tokenizer(directory / "tokenizer.json")
    about = _optional(directory / "special_tokens_map.json")
    about |= read_json(directory / "tokenizer_config.json")
    eos = _content(about.get("eos_token"))
    if eos is None:
        raise UserError(f"{directory / 'tokenizer_config.json'} names no eos_token")
    tokenizer = wrap_tokenizer(
        inner,
        pad=_content(about.get("pad_token")),
        bos=_content(about.get("bos_token")),
        eos=eos,
        stop_ids=_stop_ids(directory),
        chat_template=_template(directory, about),
        vocab_size=vocab_size,
    )
    if vocab_size is not None and tokenizer.vocab_size > vocab_size:
        raise UserError(
            f"{directory}: the tokenizer has {tokenizer.vocab_size} ids, the model {vocab_size}"
        )
    return tokenizer


def save_hub_tokenizer(directory: Path, tokenizer: Tokenizer) -> None:
    """Writes tokenizer.json, tokenizer_config.json and, where there is one, the chat template."""
    tokenizer.save(directory / "tokenizer.json")
    ids = {"eos": tokenizer.eos_id, "pad": tokenizer.pad_id, "bos": tokenizer.bos_id}
    names = {
        f"{name}_token": tokenizer.inner.id_to_token(token_id)
        for name, token_id in ids.items()
        if token_id is not None
    }
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    write_json(directory / "tokenizer_config.json", about | names)
    if tokenizer.chat_template is None:
        (directory / TEMPLATE).unlink(missing_ok=True)
    else:
        (directory / TEMPLATE).write_text(tokenizer.chat_template, encoding="utf-8")


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _content(token: Any) -> str | None:
    """A token as these files name it: a string, or a record that holds one."""
    return token.get("content") if isinstance(token, Mapping) else token


def _template(directory: Path, about: Mapping[str, Any]) -> str | None:
    if (directory / TEMPLATE).is_file():
        return (directory / TEMPLATE).read_text(encoding="utf-8")
    template = _optional(directory / "chat_template.json").get("chat_template")
    template = template or about.get("chat_template")
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        return named.get("default")
    return template


def _stop_ids(directory: Path) -> Iterable[int]:
    """The end tokens that the model's own files name."""
    for name in ("generation_config.json", "config.json"):
        found = _optional(directory / name).get("eos_token_id")
        if found is not None:
            return found if isinstance(found, list) else [found]
    return []
