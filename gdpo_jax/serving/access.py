"""The address and the key of an endpoint: what is sent, what may be shown, and what is taken out
of texts that come back."""

import base64
import dataclasses
import os
import re
import urllib.parse
from collections.abc import Sequence

from gdpo_jax.errors import UserError

__all__ = ["Access", "read_access", "read_key"]

_EXAMPLE = "give one such as http://localhost:8000/v1"
_PIECE = 8  # so many characters of a secret in a row are one in an error message


@dataclasses.dataclass(frozen=True)
class Access:
    """Where an endpoint is, and what it asks for; only `url` is ever shown."""

    url: str  # without user, password and final slash
    authorization: str | None = dataclasses.field(repr=False)  # the header's value
    secrets: tuple[str, ...] = dataclasses.field(repr=False)

    def hide(self, text: str) -> str:
        """A text to keep, without secrets that stand in it whole.

        Shorter than eight characters, what is given as a key is a placeholder and no secret.
        """
        return self._without(text, [s for s in self.secrets if len(s) >= _PIECE])

    def hide_pieces(self, text: str) -> str:
        """A text to show in a message, also without pieces of secrets."""
        lower = [secret.lower() for secret in self.secrets]
        pieces = {s[n : n + _PIECE] for s in lower for n in range(len(s) - _PIECE + 1)}
        text = self._without(text, self.secrets)
        hidden = [False] * len(text)
        for n in range(len(text) - _PIECE + 1):
            if text[n : n + _PIECE].lower() in pieces:
                hidden[n : n + _PIECE] = [True] * _PIECE
        shown = "".join("\0" if hide else c for c, hide in zip(text, hidden))
        return re.sub("\0+", "[key]", shown)

    @staticmethod
    def _without(text: str, secrets: Sequence[str]) -> str:
        for secret in sorted(secrets, key=len, reverse=True):
            text = re.sub(re.escape(secret), "[key]", text, flags=re.IGNORECASE)
        return text


def read_access(url: str, key: str | None) -> Access:
    """The address, which may hold user:password@, and the key, which may end in a line end.

    Raises `UserError`, never with a secret in it, for an address that is none and a key that
    cannot stand in a header.
    """
    parts = _parts(url)
    key = (key or "").strip()
    if not all("!" <= c <= "~" for c in key):
        raise UserError(
            "the endpoint's key has a line end, a space or a character outside of ASCII in it, "
            "which no key has; look at the file or variable it comes from (it is not shown here)"
        )
    user, at, where = parts.netloc.rpartition("@")
    shown = urllib.parse.urlunsplit((parts.scheme, where, parts.path.rstrip("/"), "", ""))
    if at and key:
        raise UserError(f"endpoint {shown}: give a key or user:password@ in the address, not both")
    if key:
        return Access(shown, f"Bearer {key}", (key,))
    if not at:
        return Access(shown, None, ())
    name, _, password = user.partition(":")
    plain = f"{urllib.parse.unquote(name)}:{urllib.parse.unquote(password)}"
    token = base64.b64encode(plain.encode()).decode()
    secrets = {user, plain, token, password, urllib.parse.unquote(password)} - {""}
    return Access(shown, f"Basic {token}", tuple(sorted(secrets)))


def _parts(url: str) -> urllib.parse.SplitResult:
    url = url.strip()
    if not url.lower().startswith(("http://", "https://")):
        raise UserError(
            "the address of the endpoint must start with http:// or https://; " + _EXAMPLE
        )
    if not all("!" <= c <= "~" for c in url):
        raise UserError(
            "the address of the endpoint has a space, a line end or a character outside of ASCII "
            f"in it; {_EXAMPLE}"
        )
    try:
        parts = urllib.parse.urlsplit(url)
        good = bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or "@" in parts.path:
        raise UserError(
            f"the address of the endpoint has no host, or cannot be read; {_EXAMPLE} (/, @, ? and "
            "# of a password as %2F, %40, %3F and %23)"
        )
    if parts.query or parts.fragment:
        raise UserError(f"the address of the endpoint has a ? or # in it; {_EXAMPLE}")
    return parts


def read_key(variable: str, option: str) -> str | None:
    """The value of an environment variable; None where no variable is named.

    Raises `UserError` that names the variable, never its value, where it is not set.
    """
    if not variable:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(
            f"--{option} {variable}: the environment variable is not set; give its name, not the "
            "key itself"
            if variable.isidentifier()
            else f"--{option} names no environment variable; give its name, not the key itself"
        )
    return key
