"""BPE tokenizers over bytes: training, loading, and the characters that each token stands for.

Tokenizers trained here split text as Qwen and Llama 3 do, so that ")\\n" is one piece, and digits
come in runs of up to four, so that a year can be one token.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as InnerTokenizer

from gdpo_jax.errors import UserError
from gdpo_jax.files import write_beside
from gdpo_jax.policies.decoding import Decoding, decoding_of
from gdpo_jax.policies.extras import as_user_error
from gdpo_jax.policies.tokenizer_file import check_tokenizer_file
from gdpo_jax.token_ids import check_token_ids

CONTROL_TOKENS = ("<|pad|>", "<|bos|>", "<|eos|>")
MOST_IDS = 2**22  # the largest published vocabularies have 2**18

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"  # English contractions
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"  # a word with the one sign before it
    r"|\p{N}{1,4}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"  # signs with the line ends behind them
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
    """Text to token ids and back.

    Control tokens (padding, begin, end) have no text, so they vanish in `decode`, while reserved
    words are ordinary tokens that appear in it. Published tokenizers may lack a begin token, pad
    with their end token, and stop at others besides (`stop_ids`); `adds_bos` says whether plain
    text of theirs begins with the begin token (`with_bos`). `chat_template` is for `render_chat`,
    which may also take one of `named_templates`, and gives `special_tokens` (such as "bos_token")
    to it.
    """

    inner: InnerTokenizer
    decoding: Decoding
    pad_id: int
    bos_id: int | None
    eos_id: int
    chat_template: str | None = None
    stop_ids: tuple[int, ...] = ()
    adds_bos: bool = False
    named_templates: Mapping[str, str] = dataclasses.field(default_factory=dict)
    special_tokens: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """The UTF-8 bytes of every token by itself; control tokens have none."""
        return self.decoding.pieces

    @property
    def vocab_size(self) -> int:
        """One more than the largest token id."""
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        """The token ids of `text`, without begin or end tokens.

        Raises UserError for what is no text, half of a surrogate pair, and a file's rules that fail
        on it.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text."""
        for index, text in enumerate(texts):
            _check_text(text, index)
        with as_user_error("the tokenizer fails on a text"):
            batch = self.inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in batch]

    def with_bos(self, ids: Sequence[int]) -> list[int]:
        """The ids with the begin token in front, if the model's own tokenizer puts one there.

        One that is there already (rendered chats hold it) is not put twice.
        """
        begun = not self.adds_bos or self.bos_id is None or list(ids[:1]) == [self.bos_id]
        return list(ids) if begun else [self.bos_id, *ids]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the tokens, as the tokenizers library gives it without control tokens.

        Bytes that are no UTF-8 become U+FFFD. Raises UserError for an id that is none.
        """
        return self.decoding.text(self._checked(ids))

    def token_spans(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """The characters [start, end) of `decode(ids)` that each token touches.

        Tokens that each hold a part of one character all span that character; control tokens get an
        empty span at their place. Starts never fall. Raises UserError for an id that is none.
        """
        return self.decoding.spans(self._checked(ids))

    def _checked(self, ids: Iterable[int]) -> list[int]:
        ids = list(ids)
        check_token_ids(ids, self.vocab_size, "a row of tokens")
        return ids

    def token_id(self, token: str) -> int:
        """The id of one token of the vocabulary. Raises UserError where there is none."""
        found = self.inner.token_to_id(token)
        if found is None:
            raise UserError(f"the tokenizer has no token {token!r}")
        return found

    def save(self, path: str | Path) -> None:
        """Writes one tokenizer.json, which `load_tokenizer` and other tools open."""
        write_beside(path, self.inner.to_str(pretty=True))


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int, special_tokens: Sequence[str] = ()
) -> Tokenizer:
    """A byte-level BPE tokenizer of `vocab_size` tokens, or fewer where the texts hold fewer.

    special_tokens: reserved words such as "<solution>"; each is one token, and appears in decoded
      text. Padding, begin and end tokens come by themselves as ids 0, 1 and 2.

    Raises UserError where the vocabulary cannot hold all bytes and reserved words, or a word is
    empty or given twice.
    """
    reserved = list(special_tokens)
    if len(set(reserved) | set(CONTROL_TOKENS)) < len(reserved) + len(CONTROL_TOKENS):
        raise UserError(f"reserved words must differ from each other and from {CONTROL_TOKENS}")
    if "" in reserved:
        raise UserError("a reserved word is empty")
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    least = len(alphabet) + len(CONTROL_TOKENS) + len(reserved)
    if vocab_size < least:
        raise UserError(
            f"vocab_size {vocab_size} is below {least}: {len(alphabet)} bytes, "
            f"{len(CONTROL_TOKENS)} control tokens, {len(reserved)} reserved words"
        )
    inner = InnerTokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    if reserved:
        # Merges must not learn the inside of words that the encoder will cut out beforehand.
        cut = re.compile("|".join(re.escape(w) for w in sorted(reserved, key=len, reverse=True)))
        texts = (part for text in texts for part in cut.split(text) if part)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(reserved),
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer=trainer)
    inner.add_tokens([AddedToken(word, normalized=False, special=False) for word in reserved])
    return wrap_tokenizer(inner)


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer that `save` wrote. Raises UserError for a file that is none."""
    return wrap_tokenizer(read_tokenizer(path))


def read_tokenizer(path: str | Path) -> InnerTokenizer:
    """The library's tokenizer in a tokenizer.json; texts are neither cut nor padded.

    Raises UserError for a file that is none, or in which something stands that would give other ids
    than the file says.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no tokenizer file {path}")
    try:
        text = path.read_text(encoding="utf-8")
        about = json.loads(text)
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} is not a tokenizer.json: {error}") from error
    check_tokenizer_file(about, str(path))
    with as_user_error(f"{path} is not a tokenizer.json"):
        inner = InnerTokenizer.from_str(text)
    inner.no_truncation()
    inner.no_padding()
    for token in about.get("added_tokens") or ():
        check_id_of(inner, token["content"], token["id"], str(path))
    return inner


def check_id_of(inner: InnerTokenizer, token: str, said: int, where: str) -> None:
    """The library numbers added tokens anew. Raises UserError where the file says another id."""
    given = inner.token_to_id(token)
    if given != said:
        raise UserError(
            f"{where}: the added token {token[:80]!r} has the id {said!r}, but the tokenizers "
            f"library gives it {given}; ids of added tokens follow the vocabulary without a gap"
        )


def wrap_tokenizer(
    inner: InnerTokenizer,
    *,
    pad: str | None = CONTROL_TOKENS[0],
    bos: str | None = CONTROL_TOKENS[1],
    eos: str = CONTROL_TOKENS[2],
    stop_ids: Iterable[int] = (),
    chat_template: str | None = None,
    vocab_size: int | None = None,
    adds_bos: bool = False,
    named_templates: Mapping[str, str] | None = None,
    special_tokens: Mapping[str, str] | None = None,
) -> Tokenizer:
    """A record around a tokenizer of the library.

    pad: None pads with the end token. stop_ids: where answers end besides the end token.
    vocab_size: of a model that has more ids than the tokenizer; the others stand for no text.
    adds_bos: whether plain text begins with the begin token, even if the tokenizer's own
    post-processor does not put it there. special_tokens: names that templates know besides those of
    `pad`, `bos` and `eos`.

    Raises UserError where a control token is missing, two tokens share an id, an id is no row of a
    vocabulary, or the decoder is not known.
    """
    roles = {"pad_token": pad, "bos_token": bos, "eos_token": eos}
    roles = {role: token for role, token in roles.items() if token is not None}
    ids = {token: inner.token_to_id(token) for token in roles.values()}
    missing = [token for token, found in ids.items() if found is None]
    if missing:
        raise UserError(f"the tokenizer lacks the control tokens {', '.join(missing)}")
    tokens, plain = _token_table(inner)
    tokens += [None] * ((vocab_size or 0) - len(tokens))
    end, begin = ids[eos], ids.get(bos)
    if begin is not None and not adds_bos:
        with as_user_error("the tokenizer fails on an empty text"):
            adds_bos = inner.encode("").ids[:1] == [begin]
    stops = tuple(dict.fromkeys([end, *stop_ids]))
    check_token_ids(stops, len(tokens), "the tokens that end an answer")
    return Tokenizer(
        inner=inner,
        decoding=decoding_of(inner, tokens, plain),
        pad_id=ids.get(pad, end),
        bos_id=begin,
        eos_id=end,
        chat_template=chat_template,
        stop_ids=stops,
        adds_bos=adds_bos and begin is not None,
        named_templates=dict(named_templates or {}),
        special_tokens={**(special_tokens or {}), **roles},
    )


def _check_text(text: Any, index: int) -> None:
    if not isinstance(text, str):
        raise UserError(f"text {index} is a {type(text).__name__}, not a text")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"text {index} holds half of a surrogate pair, {text[error.start]!r}, at character "
            f"{error.start}; it stands for no character, leave it out"
        ) from None


def _token_table(inner: InnerTokenizer) -> tuple[list[str | None], set[int]]:
    """The token of every id, None for control tokens and gaps; and the ids of added words."""
    vocab = inner.get_vocab(with_added_tokens=True)
    added = inner.get_added_tokens_decoder()
    last = max(vocab, key=lambda token: vocab[token])
    if vocab[last] >= MOST_IDS:
        raise UserError(
            f"the tokenizer gives {last[:80]!r} the id {vocab[last]}; legal are ids below "
            f"{MOST_IDS}"
        )
    tokens: list[str | None] = [None] * (vocab[last] + 1)
    for token, i in vocab.items():
        if tokens[i] is not None:
            raise UserError(
                f"the tokenizer gives the id {i} to {tokens[i][:80]!r} and to {token[:80]!r}"
            )
        tokens[i] = token
    for i, token in added.items():
        if token.special:
            tokens[i] = None
    return tokens, {i for i, token in added.items() if not token.special}
