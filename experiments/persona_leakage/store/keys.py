"""Encryption at rest: a key for every user, wrapped by a master key that the caller keeps.

AES-256 in Galois/counter mode (AES-GCM), with random nonces of 96 bits. What a box is about (its
user, its kind, its place) is authenticated with it, so that one that was moved to another user or
place does not open. Without a master key everything is stored as it is, by the same functions.
"""

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gdpo_jax.data.json_rows import read_text
from gdpo_jax.errors import UserError
from gdpo_jax.files import write_beside

__all__ = [
    "KEY_BYTES",
    "NotOpened",
    "Sealer",
    "Vault",
    "digest",
    "new_sealer",
    "open_box",
    "read_key",
    "seal",
    "unwrap_sealer",
    "vault_of",
    "write_new_key",
]

KEY_BYTES = 32
_NONCE, _DIGEST = 12, 16  # bytes


class NotOpened(Exception):
    """A box that was damaged, moved, or closed with another key."""


@dataclass(frozen=True)
class Sealer:
    """What closes and opens the boxes of one user, or (of `Vault`) of all users' names and keys.

    cipher: `AESGCM` of cryptography; None leaves boxes open
    wrapped: the key itself in a box of the master key, to be stored
    """

    cipher: Any = field(default=None, repr=False)
    wrapped: bytes = b""


@dataclass(frozen=True)
class Vault:
    """What a master key gives: it closes names and keys of users, and makes their digests."""

    master: Sealer = Sealer()
    index: bytes = field(default=b"", repr=False)  # of digests, so that they tell no names

    @property
    def encrypted(self) -> bool:
        """Is anything encrypted?"""
        return self.master.cipher is not None


def vault_of(key: bytes | None) -> Vault:
    """What a master key of 32 bytes gives; without a key nothing is encrypted.

    Raises `UserError` for a key of another length, and without the library cryptography.
    """
    if key is None:
        return Vault()
    if len(key) != KEY_BYTES:
        raise UserError(f"a master key has {KEY_BYTES} bytes, this one has {len(key)}")
    cipher = _cipher()(hashlib.blake2b(b"names and keys", key=key, digest_size=32).digest())
    return Vault(Sealer(cipher), hashlib.blake2b(b"digests", key=key, digest_size=32).digest())


def new_sealer(vault: Vault, user: str) -> Sealer:
    """A new key for a user, unless nothing is encrypted."""
    if not vault.encrypted:
        return Sealer()
    key = secrets.token_bytes(KEY_BYTES)
    return Sealer(_cipher()(key), seal(vault.master, key, "key", user))


def unwrap_sealer(vault: Vault, user: str, wrapped: bytes) -> Sealer:
    """The key of a user as it was stored. Raises `NotOpened`."""
    if not vault.encrypted:
        return Sealer()
    return Sealer(_cipher()(open_box(vault.master, wrapped, "key", user)), wrapped)


def seal(sealer: Sealer, data: bytes, *about: str | int) -> bytes:
    """The data in a box that opens with the same key and the same `about` alone."""
    if sealer.cipher is None:
        return data
    nonce = secrets.token_bytes(_NONCE)
    return nonce + sealer.cipher.encrypt(nonce, data, json.dumps(about).encode())


def open_box(sealer: Sealer, box: bytes, *about: str | int) -> bytes:
    """What `seal` put in. Raises `NotOpened` for another key, another `about`, or damage."""
    if sealer.cipher is None:
        return box
    from cryptography.exceptions import InvalidTag

    try:
        return sealer.cipher.decrypt(box[:_NONCE], box[_NONCE:], json.dumps(about).encode())
    except (InvalidTag, ValueError):  # ValueError: too short to hold a tag
        raise NotOpened from None


def digest(vault: Vault, *parts: str) -> bytes:
    """16 bytes that stand for texts, in order: equal for equal ones, and telling nothing else.

    Without a master key anybody can tell them from guessed texts.
    """
    text = json.dumps(parts).encode()
    return hashlib.blake2b(text, key=vault.index, digest_size=_DIGEST).digest()


def write_new_key(path: Path) -> None:
    """Writes a new random master key, readable by its owner alone, as 64 hexadecimal digits.

    Raises `UserError` where there is a file already, or it cannot be written.
    """
    if path.exists():
        raise UserError(f"{path} is there already; what it opens would be lost, so name another")

    def write(partial: Path) -> None:
        partial.touch(mode=0o600)
        partial.write_text(secrets.token_hex(KEY_BYTES) + "\n")

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_beside(path, write)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def read_key(path: Path) -> bytes:
    """The master key in a file of 64 hexadecimal digits. Raises `UserError` for anything else."""
    text = read_text(path).strip()
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise UserError(
            f"{path} holds no master key: expected {2 * KEY_BYTES} hexadecimal digits; `store key` "
            "writes a new one"
        )
    return key


def _cipher() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise UserError(
            "encryption needs cryptography; pip install 'gdpo-jax[store]', or leave the key out"
        ) from None
    return AESGCM
