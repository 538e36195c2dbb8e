"""What one user said is read by him alone, and what was acknowledged stays, whatever happens."""

import contextlib
import fcntl
import resource
import sqlite3
import threading

import pytest

from experiments.persona_leakage.store import database
from experiments.persona_leakage.store.conversations import Message, open_store
from experiments.persona_leakage.store.overview import Cost, check, costs
from experiments.persona_leakage.store.records import user_id
from gdpo_jax.errors import UserError

KEY = bytes(range(32))


def message(number, content="I like tea.", role="user"):
    return Message(id=f"m{number}", conversation="c", role=role, content=content)


@pytest.fixture(params=[None, KEY], ids=["plain", "encrypted"])
def key(request):
    return request.param


@pytest.fixture
def store(tmp_path, key):
    with contextlib.closing(open_store(tmp_path / "store", key)) as opened:
        yield opened


def test_appended_once_and_read_in_order(tmp_path, key, store):
    ann, bob = store.user("ann"), store.user("bob")
    assert not ann.exists() and ann.read() == () and ann.export() == []
    first, second = message(1), message(2, 'Line\nbreaks, "quotes", ü and \0.', "assistant")
    assert ann.append([first, second]) == 2
    assert ann.append([second, first, message(3, "")]) == 1
    assert bob.append([message(1, "I like milk.")]) == 1  # the same id, of another user
    with contextlib.closing(open_store(tmp_path / "store", key)) as again:
        assert again.user("ann").read() == (first, second, message(3, ""))
        assert again.user("bob").read() == (message(1, "I like milk."),)
    assert check(store).problems == ()


def test_another_text_under_the_same_id_is_refused_with_all_beside_it(store):
    ann = store.user("ann")
    ann.append([message(1)])
    with pytest.raises(UserError, match="'ann' has another message of id 'm1'"):
        ann.append([message(2), message(1, "No, coffee.")])
    assert ann.read() == (message(1),)


def test_artefacts_files_and_export(store):
    ann = store.user("ann")
    ann.append([message(1)])
    ann.put("notes", "likes milk")
    ann.put("notes", "likes tea")
    ann.put("enrolment", "[1, 2]")
    (ann.make_folder() / "adapter.bin").write_bytes(b"abc")
    assert ann.artefacts() == {"enrolment": "[1, 2]", "notes": "likes tea"}
    assert store.user("bob").artefacts() == {} and not store.user("bob").folder.exists()
    said = {"id": "m1", "conversation": "c", "role": "user", "content": "I like tea."}
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of FIPS 180-2
    assert ann.export() == [
        {"kind": "message", "user": "ann", **said},
        {"kind": "artefact", "user": "ann", "name": "enrolment", "text": "[1, 2]"},
        {"kind": "artefact", "user": "ann", "name": "notes", "text": "likes tea"},
        {"kind": "file", "user": "ann", "name": "adapter.bin", "bytes": 3, "sha256": sha256},
    ]


def test_costs_by_hand(tmp_path):
    with contextlib.closing(open_store(tmp_path)) as store:
        store.user("bob").append([message(1), message(2)])
        store.user("ann").put("notes", "tea")
        (store.user("ann").make_folder() / "adapter").write_bytes(b"12345")
        # Names take 3 bytes; messages ["m1","c","user","I like tea."], artefacts ["notes","tea"].
        assert costs(store) == [
            Cost(user="ann", messages=0, message_bytes=0, artefacts=1, artefact_bytes=15, files=1,
                 file_bytes=5, bytes=3 + 15 + 5),
            Cost(user="bob", messages=2, message_bytes=62, artefacts=0, artefact_bytes=0, files=0,
                 file_bytes=0, bytes=3 + 2 * 31),
        ]  # fmt: skip


def test_a_row_that_was_moved_to_another_user_does_not_open(store):
    ann, bob = store.user("ann"), store.user("bob")
    ann.append([message(1, "My secret.")])
    ann.put("notes", "secret")
    bob.append([message(n) for n in range(2, 4)])
    connection, vault = store.database.connection, store.database.vault
    who = (user_id(vault, "bob"), user_id(vault, "ann"))
    connection.execute("UPDATE messages SET user = ?, position = 9 WHERE user = ?", who)
    connection.execute("UPDATE artefacts SET user = ? WHERE user = ?", who)
    with pytest.raises(UserError, match="message 9 of user 'bob' is damaged, or was moved"):
        bob.read()
    with pytest.raises(UserError, match="an artefact of user 'bob'"):
        bob.artefacts()
    assert len(check(store).problems) == 1


def test_rows_and_files_without_their_user_are_named(store):
    store.user("ann").append([message(1)])
    (store.user("bob").make_folder() / "adapter").write_bytes(b"1")
    store.database.connection.execute("DELETE FROM users")
    assert [problem[:14] for problem in check(store).problems] == [
        "messages of no",
        "files of no us",
    ]
    with pytest.raises(UserError, match="damaged"):
        store.user("ann").read()


def test_encrypted_files_tell_nothing_in_clear(tmp_path):
    with contextlib.closing(open_store(tmp_path, KEY)) as store:
        ann = store.user("ann-of-the-hill")
        ann.append([message("-of-the-road", "I like tea with milk.")])
        ann.put("notes-of-mine", "likes sugar")
        seen = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for text in (b"hill", b"road", b"milk", b"notes-of", b"sugar"):
        assert text not in seen


def test_a_wrong_key_is_one_message(tmp_path):
    open_store(tmp_path / "plain").close()
    open_store(tmp_path / "closed", KEY).close()
    for name, key, problem in [
        ("closed", bytes(32), "encrypted with another master key"),
        ("closed", None, "is encrypted; give its master key"),
        ("plain", KEY, "is not encrypted; leave the key out"),
    ]:
        before = (tmp_path / name / "conversations.sqlite").read_bytes()
        with pytest.raises(UserError, match=problem):
            open_store(tmp_path / name, key)
        assert (tmp_path / name / "conversations.sqlite").read_bytes() == before


def test_a_full_disk_takes_nothing_and_leaves_what_was_there(store):
    ann, connection = store.user("ann"), store.database.connection
    ann.append([message(1)])
    [pages] = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(UserError, match="disk full"):
        ann.append([message(2), message(3, "x" * 50_000)])
    assert ann.read() == (message(1),)
    connection.execute("PRAGMA max_page_count = 100000")
    assert ann.append([message(2), message(3, "x" * 50_000)]) == 2
    assert check(store).problems == ()


def test_a_log_that_cannot_grow_takes_nothing_and_leaves_what_was_there(tmp_path, store):
    ann = store.user("ann")
    ann.append([message(1)])
    log = tmp_path / "store" / "conversations.sqlite-wal"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 10_000, before[1]))
    try:
        with pytest.raises(UserError, match="cannot use"):
            ann.append([message(2, "x" * 50_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert ann.read() == (message(1),)
    assert ann.append([message(2, "x" * 50_000)]) == 1
    assert check(store).problems == ()


def test_threads_and_connections_lose_and_mix_nothing(tmp_path, key, store):
    with contextlib.closing(open_store(tmp_path / "store", key)) as other:

        def work(opened, thread):
            for n in range(5):
                for user in ("ann", "bob"):
                    opened.user(user).append([message(f"{thread}/{n}", f"of {user}")])

        threads = [
            threading.Thread(target=work, args=[one, n]) for n, one in enumerate((store, other) * 2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for user in ("ann", "bob"):
        found = store.user(user).read()
        assert len({one.id for one in found}) == len(found) == 20
        assert {one.content for one in found} == {f"of {user}"}


def test_a_writer_that_never_ends_is_told_of(tmp_path, store, monkeypatch):
    ann = store.user("ann")
    ann.append([message(1)])
    monkeypatch.setattr(database, "_PATIENCE", 0.02)
    with (tmp_path / "store" / "writer.lock").open("ab") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        assert ann.read() == (message(1),)  # who reads does not wait
        with pytest.raises(UserError, match="another process has been writing"):
            ann.append([message(2)])
    store.database.connection.execute("PRAGMA busy_timeout = 20")
    with contextlib.closing(sqlite3.connect(store.database.path)) as other:  # another program
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UserError, match="another process writing"):
            ann.append([message(2)])
    assert ann.append([message(2)]) == 1


def test_what_is_no_message_or_user_is_named(store):
    for wrong, problem in [
        (message(1, role="friend"), "message 0, field 'role'"),
        (message(1, content=None), "field 'content'"),
        (message(1, content="\ud800"), "surrogate"),
        (Message(id=" ", conversation="c", role="user", content=""), "field 'id'"),
    ]:
        with pytest.raises(UserError, match=problem):
            store.user("ann").append([wrong])
    assert not store.user("ann").exists()
    for name in ("", " ", None, ["ann", "bob"]):
        with pytest.raises(UserError, match="expected a text"):
            store.user(name)


def test_other_files_are_refused_and_left_as_they_are(tmp_path):
    for name in ("text", "pets", "later"):
        (tmp_path / name).mkdir()
    path = {name: tmp_path / name / "conversations.sqlite" for name in ("text", "pets", "later")}
    path["text"].write_text("shopping: nuts " * 100)
    with contextlib.closing(sqlite3.connect(path["pets"])) as connection:
        connection.execute("CREATE TABLE pets (name TEXT)")
    open_store(tmp_path / "later").close()
    with contextlib.closing(sqlite3.connect(path["later"])) as connection:
        connection.execute("PRAGMA user_version = 2")
    before = {name: file.read_bytes() for name, file in path.items()}
    for name, problem in [
        ("text", "no file of conversations"),
        ("pets", "another program's file"),
        ("later", "later version"),
        ("text/conversations.sqlite", "cannot use"),
    ]:
        with pytest.raises(UserError, match=problem):
            open_store(tmp_path / name)
    assert {name: file.read_bytes() for name, file in path.items()} == before
