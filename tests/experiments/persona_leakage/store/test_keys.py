"""Boxes open with their key and about what they were closed about, and with nothing else."""

import stat
import sys

import pytest

from experiments.persona_leakage.store.keys import (
    NotOpened,
    digest,
    new_sealer,
    open_box,
    read_key,
    seal,
    unwrap_sealer,
    vault_of,
    write_new_key,
)
from gdpo_jax.errors import UserError

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


def test_a_box_opens_about_the_same_user_and_place_alone():
    vault = vault_of(KEY)
    sealer = new_sealer(vault, "ann")
    box = seal(sealer, b"tea", "message", "ann", 1)
    again = unwrap_sealer(vault_of(KEY), "ann", sealer.wrapped)
    assert open_box(again, box, "message", "ann", 1) == b"tea"
    assert b"tea" not in box and seal(sealer, b"tea", "message", "ann", 1) != box
    wrong = [("message", "bob", 1), ("message", "ann", 2), ("message", "ann"), ("messageann", 1)]
    for about in wrong:
        with pytest.raises(NotOpened):
            open_box(again, box, *about)
    for damaged in (box[:-1], box[:5], b"", bytes([box[0] ^ 1]) + box[1:]):
        with pytest.raises(NotOpened):
            open_box(again, damaged, "message", "ann", 1)


def test_the_key_of_a_user_opens_under_his_name_and_the_same_master_key_alone():
    wrapped = new_sealer(vault_of(KEY), "ann").wrapped
    for vault, user in ((vault_of(KEY), "bob"), (vault_of(OTHER), "ann")):
        with pytest.raises(NotOpened):
            unwrap_sealer(vault, user, wrapped)


def test_digests_tell_parts_and_keys_apart():
    vaults = (vault_of(None), vault_of(KEY), vault_of(OTHER))
    made = {digest(v, *parts) for v in vaults for parts in (("ab", "c"), ("a", "bc"), ("abc",))}
    assert len(made) == 9 and {len(one) for one in made} == {16}
    assert digest(vaults[1], "ab", "c") == digest(vault_of(KEY), "ab", "c")


def test_key_files(tmp_path):
    path = tmp_path / "keys" / "master"
    write_new_key(path)
    assert len(read_key(path)) == 32 and stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_text()
    with pytest.raises(UserError, match="there already"):
        write_new_key(path)
    assert path.read_text() == before
    for text in ("", "not hexadecimal", "00" * 31):
        path.write_text(text)
        with pytest.raises(UserError, match="no master key"):
            read_key(path)
    with pytest.raises(UserError, match="32 bytes, this one has 5"):
        vault_of(b"short")


def test_without_the_library_one_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(UserError, match=r"gdpo-jax\[store\]"):
        vault_of(KEY)
    assert not vault_of(None).encrypted
