"""Token ids to text by the decoder of the tokenizers library, with the characters of each token.

The library gives the text alone; here every step of a decoder also keeps what each token became, so
that spans come with it. Two shapes: bytes (`ByteLevel`), where the bytes of all tokens are joined
and read as UTF-8, and texts (all others), where every token has a text that steps rewrite.
"""

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tokenizers import Tokenizer as InnerTokenizer

from gdpo_jax.errors import UserError

Spans = list[tuple[int, int]]
Texts = list[str]

LOST = "\N{REPLACEMENT CHARACTER}"
DIGITS = "0123456789abcdefABCDEF"
# How tokens spell bytes, as the library reads them: <0x0A>, <0x0a>, <0x+A>.
BYTES = {f"<0x{first}{second}>": int(first + second, 16) for first in DIGITS for second in DIGITS}
BYTES |= {f"<0x+{digit}>": int(digit, 16) for digit in DIGITS}
NO_DECODER = {"type": "Spaces"}  # without a decoder the library puts spaces between tokens
CLEANED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
    (" 'm", "'m"), (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


class Decoding(NamedTuple):
    """How a vocabulary becomes text.

    pieces: the UTF-8 bytes of every id by itself; those without text (control tokens, ids that no
    token has) have none. text(ids), spans(ids): of a sequence.
    """

    pieces: tuple[bytes, ...]
    text: Callable[[Sequence[int]], str]
    spans: Callable[[Sequence[int]], Spans]


def decoding_of(inner: InnerTokenizer, tokens: Sequence[str | None], plain: set[int]) -> Decoding:
    """The decoding of a tokenizer.

    tokens: of every id, None where it has no text. plain: ids whose text is the token as it is
    written (words added to a vocabulary of bytes).

    Raises UserError for a decoder that is not known.
    """
    decoder = inner.decoder
    steps = _steps(NO_DECODER if decoder is None else json.loads(decoder.__getstate__()))
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"]:
        byte_of = _byte_of_char()
        pieces = tuple(
            b"" if token is None else _spelled(token, byte_of, i in plain)
            for i, token in enumerate(tokens)
        )
        return Decoding(
            pieces,
            functools.partial(_byte_text, pieces),
            functools.partial(_byte_spans, pieces),
        )
    rewrites = [_rewrite(step) for step in steps]
    if "ByteFallback" in kinds[:-1] and kinds[kinds.index("ByteFallback") + 1] != "Fuse":
        raise UserError(
            f"the tokenizer decodes by {kinds}; behind ByteFallback comes Fuse or nothing"
        )
    if "Fuse" in kinds[:-1]:
        after = kinds.index("Fuse") + 1
        rewrites[after:] = [functools.partial(_on_whole, rewrite) for rewrite in rewrites[after:]]
    # Steps that look at one token at a time are done once for the whole vocabulary.
    known = ["" if token is None else token for token in tokens]
    while kinds and kinds[0] == "Replace":
        known, _ = rewrites.pop(0)(known, [0] * len(known))
        kinds.pop(0)
    table = [None if token is None else text for token, text in zip(tokens, known)]
    run = functools.partial(_rewritten, tuple(table), tuple(rewrites))
    pieces = tuple(_alone(text, "ByteFallback" in kinds) for text in table)
    return Decoding(
        pieces, functools.partial(_library_text, inner), functools.partial(_joined_spans, run)
    )


def _steps(decoder: dict[str, Any]) -> list[dict[str, Any]]:
    if decoder.get("type") != "Sequence":
        return [decoder]
    return [step for inner in decoder["decoders"] for step in _steps(inner)]


# Bytes.


def _spelled(token: str, byte_of: dict[str, int], plain: bool) -> bytes:
    """The bytes that a token spells; one with other letters stands for itself."""
    if plain:
        return token.encode()
    try:
        return bytes([byte_of[char] for char in token])
    except KeyError:
        return token.encode()


def _byte_of_char() -> dict[str, int]:
    """The printable character that byte-level BPE writes for each byte, inverted."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    table = {chr(byte): byte for byte in plain}
    return table | {chr(256 + n): byte for n, byte in enumerate(others)}


def _byte_text(pieces: Sequence[bytes], ids: Sequence[int]) -> str:
    return b"".join([pieces[i] for i in ids]).decode("utf-8", errors="replace")


def _byte_spans(pieces: Sequence[bytes], ids: Sequence[int]) -> Spans:
    char_of_byte = _char_of_byte(b"".join([pieces[i] for i in ids]))
    spans, offset = [], 0
    for i in ids:
        size = len(pieces[i])
        start = char_of_byte[offset]
        spans.append((start, char_of_byte[offset + size - 1] + 1 if size else start))
        offset += size
    return spans


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


# Texts: of each token its part of the whole, and whether it also touches the character before.


def _rewritten(
    table: Sequence[str | None], rewrites: Sequence[Callable], ids: Sequence[int]
) -> tuple[Texts, list[int], list[bool]]:
    """Texts, and the tokens that touch the character before theirs, of the ids that have text."""
    found = [table[i] for i in ids]
    shown = [text is not None for text in found]
    texts = [text for text in found if text is not None]
    back = [0] * len(texts)
    for rewrite in rewrites:
        texts, back = rewrite(texts, back)
    return texts, back, shown


def _library_text(inner: InnerTokenizer, ids: Sequence[int]) -> str:
    return inner.decode(ids, skip_special_tokens=True) if ids else ""


def _joined_spans(run: Callable, ids: Sequence[int]) -> Spans:
    texts, back, shown = run(ids)
    spans, place, last = [], 0, 0
    for text, touches in zip(texts, back):
        last = max(last, place - touches)
        place += len(text)
        spans.append((last, place))
    if len(spans) == len(shown):
        return spans
    # An id without text stands in front of the next one that has some.
    behind, every = iter(reversed(spans)), []
    following = place
    for has in reversed(shown):
        span = next(behind) if has else (following, following)
        following = span[0]
        every.append(span)
    return every[::-1]


def _alone(text: str | None, by_bytes: bool) -> bytes:
    if by_bytes and text in BYTES:
        return bytes([BYTES[text]])
    return (text or "").encode()


def _rewrite(step: dict[str, Any]) -> Callable[[Texts, list[int]], tuple[Texts, list[int]]]:
    kind = step.get("type")
    pattern = step.get("pattern") or {}
    if kind == "Replace" and pattern.get("String"):
        return functools.partial(_replace, pattern["String"], step["content"])
    if kind == "Strip":
        return functools.partial(_strip, step["content"], step["start"], step["stop"])
    if kind == "Metaspace":
        drops = step.get("prepend_scheme", "always") != "never"
        return functools.partial(_metaspace, step["replacement"], drops)
    if kind == "WordPiece":
        return functools.partial(_word_pieces, step["prefix"], step["cleanup"])
    if kind == "BPEDecoder":
        return functools.partial(_suffixes, step["suffix"])
    simple = {"ByteFallback": _byte_fallback, "Fuse": _unchanged, "Spaces": _spaces}
    if kind in simple:
        return simple[kind]
    what = f"{kind} with the pattern {pattern}" if kind == "Replace" else f"{kind!r}"
    raise UserError(
        f"the tokenizer decodes by {what}, which is not supported; supported are ByteLevel alone, "
        "and Replace (of a text), ByteFallback, Fuse, Strip, Metaspace, WordPiece and BPEDecoder"
    )


def _unchanged(texts: Texts, back: list[int]) -> tuple[Texts, list[int]]:
    return texts, back


def _replace(old: str, new: str, texts: Texts, back: list[int]) -> tuple[Texts, list[int]]:
    return [text.replace(old, new) for text in texts], back


def _strip(
    char: str, start: int, stop: int, texts: Texts, back: list[int]
) -> tuple[Texts, list[int]]:
    def stripped(text: str) -> str:
        first, last = 0, len(text)
        while first < min(start, len(text)) and text[first] == char:
            first += 1
        while len(text) - last < stop and last > first and text[last - 1] == char:
            last -= 1
        return text[first:last]

    return [stripped(text) for text in texts], back


def _metaspace(mark: str, drops: bool, texts: Texts, back: list[int]) -> tuple[Texts, list[int]]:
    spaced = [text.replace(mark, " ") for text in texts]
    if spaced and drops:
        spaced[0] = texts[0].replace(mark, "")
    return spaced, back


def _word_pieces(
    prefix: str, cleanup: bool, texts: Texts, back: list[int]
) -> tuple[Texts, list[int]]:
    pieces = []
    for index, text in enumerate(texts):
        if index:
            text = text[len(prefix) :] if text.startswith(prefix) else f" {text}"
        for old, new in CLEANED if cleanup else ():
            text = text.replace(old, new)
        pieces.append(text)
    return pieces, back


def _suffixes(suffix: str, texts: Texts, back: list[int]) -> tuple[Texts, list[int]]:
    spaced = [text.replace(suffix, " ") for text in texts[:-1]]
    return spaced + [text.replace(suffix, "") for text in texts[-1:]], back


def _spaces(texts: Texts, back: list[int]) -> tuple[Texts, list[int]]:
    return texts[:1] + [f" {text}" for text in texts[1:]], back


def _byte_fallback(texts: Texts, back: list[int]) -> tuple[Texts, list[int]]:
    """Runs of bytes to their characters; a run that is no UTF-8 is lost, byte by byte."""
    places = [index for index, text in enumerate(texts) if text in BYTES]
    if not places:
        return texts, back
    texts, back = list(texts), list(back)
    first = 0
    while first < len(places):
        behind = first + 1
        while behind < len(places) and places[behind] == places[behind - 1] + 1:
            behind += 1
        start, size = places[first], behind - first
        run = bytes([BYTES[text] for text in texts[start : start + size]])
        first = behind
        try:
            chars = run.decode("utf-8")
        except UnicodeDecodeError:
            texts[start : start + size] = [LOST] * size
            continue
        for char in chars:
            size = len(char.encode("utf-8"))
            texts[start : start + size] = [char] + [""] * (size - 1)
            back[start : start + size] = [0] + [1] * (size - 1)
            start += size
    return texts, back


def _on_whole(rewrite: Callable, texts: Texts, back: list[int]) -> tuple[Texts, list[int]]:
    """A step behind Fuse sees one text; what is left of it goes back to the tokens it came from."""
    whole = "".join(texts)
    (after,), _ = rewrite([whole], [0])
    if after == whole:
        return texts, back
    cuts = _cuts(rewrite, whole, after)
    parts, place = [], 0
    for text in texts:
        parts.append(after[cuts[place] : cuts[place + len(text)]])
        place += len(text)
    return parts, back


def _cuts(rewrite: Callable, whole: str, after: str) -> list[int]:
    """Where each place between two characters of `whole` lies in `after`."""
    function = rewrite.func if isinstance(rewrite, functools.partial) else None
    if function is _strip:
        char, start, _ = rewrite.args
        lead = len(whole) - len(whole.lstrip(char))
        cut = min(start, lead)
        return [min(max(place - cut, 0), len(after)) for place in range(len(whole) + 1)]
    if function is _replace:
        old, new = rewrite.args
        cuts, place, moved = [], 0, 0
        while place < len(whole):
            if whole.startswith(old, place):
                cuts += [moved, *[moved + len(new)] * (len(old) - 1)]
                place, moved = place + len(old), moved + len(new)
            else:
                cuts.append(moved)
                place, moved = place + 1, moved + 1
        return [*cuts, moved]
    # The other steps cut or add at either end, and a span may as well hold what they added.
    grown = len(after) - len(whole)
    return [min(max(place, 0), len(after)) for place in range(len(whole))] + [
        len(whole) + max(grown, -len(whole))
    ]


__all__ = ["Decoding", "Spans", "decoding_of"]
