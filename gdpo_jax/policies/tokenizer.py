"""BPE tokenizers over bytes: training, loading, and the characters that each token stands for.

Tokenizers trained here split text as Qwen and Llama 3 do, so that ")\\n" is one piece, and digits
come in runs of up to four, so that a year can be one token.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as InnerTokenizer

from gdpo_jax.errors import UserError
from gdpo_jax.files import write_beside

CONTROL_TOKENS = ("<|pad|>", "<|bos|>", "<|eos|>")

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # how SentencePiece writes a space

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

    `pieces[i]` are the UTF-8 bytes of token i; control tokens (padding, begin, end) have none, so
    they vanish in `decode`, while reserved words are ordinary tokens that appear in it. Published
    tokenizers may lack a begin token, pad with their end token, and stop at others besides
    (`stop_ids`); their `chat_template` is for `render_chat`.
    """

    inner: InnerTokenizer
    pieces: tuple[bytes, ...]
    pad_id: int
    bos_id: int | None
    eos_id: int
    chat_template: str | None = None
    stop_ids: tuple[int, ...] = ()

    @property
    def vocab_size(self) -> int:
        """One more than the largest token id."""
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        """The token ids of `text`, without begin or end tokens."""
        return self.inner.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text."""
        batch = self.inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in batch]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the tokens; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self.pieces[i] for i in ids).decode("utf-8", errors="replace")

    def token_id(self, token: str) -> int:
        """The id of one token of the vocabulary. Raises UserError where there is none."""
        found = self.inner.token_to_id(token)
        if found is None:
            raise UserError(f"the tokenizer has no token {token!r}")
        return found

    def token_spans(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """The characters [start, end) of `decode(ids)` that each token touches.

        Tokens that each hold a part of one character all span that character; control tokens get an
        empty span at their place.
        """
        data = b"".join(self.pieces[i] for i in ids)
        char_of_byte = _char_of_byte(data)
        spans, offset = [], 0
        for i in ids:
            size = len(self.pieces[i])
            start = char_of_byte[offset]
            spans.append((start, char_of_byte[offset + size - 1] + 1 if size else start))
            offset += size
        return spans

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
    """The library's tokenizer in a tokenizer.json. Raises UserError for a file that is none."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no tokenizer file {path}")
    try:
        return InnerTokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for every malformed file
        raise UserError(f"{path} is not a tokenizer.json: {error}") from error


def wrap_tokenizer(
    inner: InnerTokenizer,
    *,
    pad: str | None = CONTROL_TOKENS[0],
    bos: str | None = CONTROL_TOKENS[1],
    eos: str = CONTROL_TOKENS[2],
    stop_ids: Iterable[int] = (),
    chat_template: str | None = None,
    vocab_size: int | None = None,
) -> Tokenizer:
    """A record around a tokenizer whose tokens are bytes, or characters with bytes to fall back on.

    pad: None pads with the end token. stop_ids: where answers end besides the end token.
    vocab_size: of a model that has more ids than the tokenizer; the others stand for no text.

    Raises UserError where a control token is missing, or tokens are no bytes.
    """
    named = [token for token in (pad, bos, eos) if token is not None]
    ids = {token: inner.token_to_id(token) for token in named}
    missing = [token for token, found in ids.items() if found is None]
    if missing:
        raise UserError(f"the tokenizer lacks the control tokens {', '.join(missing)}")
    pieces = _piece_table(inner)
    pieces += (b"",) * ((vocab_size or 0) - len(pieces))
    end = ids[eos]
    return Tokenizer(
        inner=inner,
        pieces=pieces,
        pad_id=ids.get(pad, end),
        bos_id=ids.get(bos),
        eos_id=end,
        chat_template=chat_template,
        stop_ids=tuple(dict.fromkeys([end, *stop_ids])),
    )


def _piece_table(inner: InnerTokenizer) -> tuple[bytes, ...]:
    vocab = inner.get_vocab(with_added_tokens=True)
    added = inner.get_added_tokens_decoder()
    bytes_of = _bytes_of_token(inner)
    pieces = [b""] * (max(vocab.values()) + 1)
    for token, i in vocab.items():
        if i not in added:
            pieces[i] = bytes_of(token)
        elif not added[i].special:
            pieces[i] = token.encode()
    return tuple(pieces)


def _bytes_of_token(inner: InnerTokenizer) -> Callable[[str], bytes]:
    """How a vocabulary spells bytes, told by its decoder."""
    decoder = json.loads(inner.to_str()).get("decoder") or {}
    steps = decoder.get("decoders", [decoder])
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"]:
        byte_of = _byte_of_char()
        return lambda token: bytes(byte_of[char] for char in token)
    if kinds == ["Replace", "ByteFallback", "Fuse"]:
        space = steps[0]["pattern"].get("String", SPACE)

        def of_pieces(token: str) -> bytes:
            single = re.fullmatch("<0x([0-9A-F]{2})>", token)
            if single:
                return bytes.fromhex(single[1])
            return token.replace(space, steps[0]["content"]).encode()

        return of_pieces
    raise UserError(
        f"the tokenizer decodes by {kinds}; supported are byte-level BPE (ByteLevel) and BPE that "
        "falls back on bytes (Replace, ByteFallback, Fuse)"
    )


def _byte_of_char() -> dict[str, int]:
    """The printable character that byte-level BPE writes for each byte, inverted."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    table = {chr(byte): byte for byte in plain}
    return table | {chr(256 + n): byte for n, byte in enumerate(others)}


def _char_of_byte(data: bytes) -> list[int]:
    """For each byte, the index of its character in the decoded text; one more entry for the end."""
    if data.isascii():
        return list(range(len(data) + 1))
    owners: list[int] = []
    start = count = 0
    while start < len(data):
        # Sizes of characters as the "replace" handler cuts them, also where bytes are no UTF-8.
        try:
            good, bad = data[start:].decode("utf-8"), 0
        except UnicodeDecodeError as error:
            good = data[start : start + error.start].decode("utf-8")
            bad = error.end - error.start
        for char in good:
            owners += [count] * len(char.encode("utf-8"))
            count += 1
        start = len(owners) + bad
        if bad:
            owners += [count] * bad
            count += 1
    return [*owners, count]
