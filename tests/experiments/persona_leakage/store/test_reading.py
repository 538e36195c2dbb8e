"""A store that is opened for reading alone."""

import contextlib

import pytest

from experiments.persona_leakage.store import database
from experiments.persona_leakage.store.conversations import Message, open_store, read_store
from gdpo_jax.errors import UserError

KEY = bytes(range(32))
TEA = Message(id="1", conversation="c", role="user", content="Tea?")


@pytest.fixture(params=[None, KEY], ids=["plain", "encrypted"])
def key(request):
    if request.param is not None:
        pytest.importorskip("cryptography")
    return request.param


@pytest.fixture(params=[True, False], ids=["writable", "not writable"])
def folder(request, tmp_path, key, monkeypatch):
    """A store with one message, in a folder that can be written or not."""
    with contextlib.closing(open_store(tmp_path / "store", key)) as store:
        store.user("ann").append([TEA])
    # Not by its permissions: to the superuser, every folder is writable that its disk lets be.
    monkeypatch.setattr(database.os, "access", lambda path, mode: request.param)
    return tmp_path / "store"


def test_it_is_read_by_several_at_once_and_never_changed(folder, key):
    before = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with (
        contextlib.closing(read_store(folder, key)) as one,
        contextlib.closing(read_store(folder, key)) as other,
    ):
        for store in (one, other):
            assert store.user("ann").read() == (TEA,) and not store.user("bob").exists()
        with pytest.raises(UserError, match="readonly database"):
            one.user("ann").put("notes", "x")
        assert other.user("ann").artefacts() == {}
    after = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after == before


def test_what_others_write_meanwhile_is_read(tmp_path):
    with contextlib.closing(open_store(tmp_path)) as writer:
        writer.user("ann").append([TEA])
        with contextlib.closing(read_store(tmp_path)) as reader:
            writer.user("bob").append([TEA])
            assert reader.user("bob").read() == (TEA,)
        writer.user("bob").put("notes", "x")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        database.FILE,
        "writer.lock",
    ]


def test_what_cannot_be_read_is_named(folder, key):
    with pytest.raises(UserError, match="no store of conversations in"):
        read_store(folder / "none", key)
    assert not (folder / "none").exists()
    pytest.importorskip("cryptography")
    with pytest.raises(UserError, match="give its master key" if key else "not encrypted"):
        read_store(folder, None if key else KEY)


def test_a_log_that_cannot_be_moved_into_the_file_is_named(tmp_path, monkeypatch):
    with contextlib.closing(open_store(tmp_path)) as store:
        store.user("ann").append([TEA])
        monkeypatch.setattr(database.os, "access", lambda path, mode: False)
        with pytest.raises(UserError, match="has a log of a program that was ended"):
            read_store(tmp_path)
    with contextlib.closing(read_store(tmp_path)) as store:
        assert store.user("ann").read() == (TEA,)
    (tmp_path / database.FILE).write_bytes(b"no database " * 100)
    with pytest.raises(UserError, match="is damaged, or no file of conversations"):
        read_store(tmp_path)
