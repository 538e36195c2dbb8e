"""A deleted user leaves nothing in any file, and what is left is found and named."""

import contextlib

import pytest

from experiments.persona_leakage.store.conversations import Message, open_store
from experiments.persona_leakage.store.database import Database
from experiments.persona_leakage.store.deletion import finish_deletions
from experiments.persona_leakage.store.overview import check
from experiments.persona_leakage.store.records import user_id
from gdpo_jax.errors import UserError

KEY = bytes(range(32))
USERS = ("ann", "bob", "cleo")


def said(user, number):
    text = f"{user} says in his message number {number} that he likes the tea of {user}"
    return Message(id=f"{number}", conversation="c", role="user", content=text)


@pytest.fixture(params=[None, KEY], ids=["plain", "encrypted"])
def store(tmp_path, request):
    with contextlib.closing(open_store(tmp_path / "store", request.param)) as opened:
        for number in range(40):  # by turns, so that rows lie between each other when they come
            for user in USERS:
                opened.user(user).append([said(user, number)])
        yield opened


def anywhere(folder, *texts):
    """Which of the texts is in a file or a file's name below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    data = b"".join(str(path).encode() + path.read_bytes() for path in files)
    return [text for text in texts if text in data]


def test_nothing_is_left_of_a_user_and_everything_of_the_others(tmp_path, store):
    ann, vault = store.user("ann"), store.database.vault
    ann.put("notes", "ann likes tea, and " + "much more " * 1000)
    (ann.make_folder() / "adapter").mkdir()
    (ann.folder / "adapter" / "weights").write_bytes(b"123")
    rows = store.database.connection.execute(
        "SELECT body FROM messages WHERE user = ?", (ann.identity,)
    ).fetchall()
    traces = [b"message number 39 that he likes the tea of ann", ann.identity]
    traces += [ann.identity.hex().encode(), *(body for (body,) in rows)]
    assert len(anywhere(tmp_path, *traces)) >= 40
    done = ann.delete()
    assert (done.messages, done.artefacts, done.files) == (40, 1, 1)
    assert anywhere(tmp_path, *traces) == []
    assert set(done.searched) >= {"conversations.sqlite", "conversations.sqlite-wal"}
    assert done.words > 500 and (done.shared == 0) == vault.encrypted
    assert not ann.exists() and ann.read() == () and not ann.folder.exists()
    for user in ("bob", "cleo"):
        assert store.user(user).read() == tuple(said(user, n) for n in range(40))
    assert check(store).problems == ()
    assert ann.append([said("ann", 1)]) == 1 and ann.read() == (said("ann", 1),)


def test_rows_that_were_deleted_without_overwriting_are_found_and_the_file_written_anew(
    tmp_path, store
):
    store.database.connection.execute("PRAGMA secure_delete = OFF")
    done = store.user("ann").delete()
    assert done.rebuilt
    assert anywhere(tmp_path, b"that he likes the tea of ann", store.user("ann").identity) == []
    assert store.user("bob").read() == tuple(said("bob", n) for n in range(40))


def test_a_copy_in_another_users_file_is_named(store):
    path = store.user("bob").make_folder() / "notes.txt"
    path.write_text("bob heard: " + said("ann", 7).content)
    with pytest.raises(UserError, match=r"'ann' is deleted, but .*notes.txt still has something"):
        store.user("ann").delete()
    assert [problem[:11] for problem in check(store).problems] == ["1 deletions"]
    path.unlink()
    assert store.user("ann").delete().messages == 0 and check(store).problems == ()


def test_what_others_say_as_well_is_no_trace(tmp_path):
    words = "the very same words, said by two users of this store"
    with contextlib.closing(open_store(tmp_path)) as store:
        for user in USERS:
            store.user(user).append([Message(id="1", conversation="c", role="user", content=words)])
        done = store.user("ann").delete()
        # All rows say the same here but for the digests in front, so nothing tells them apart.
        assert not done.rebuilt and 0 < done.shared <= done.words
        assert store.user("bob").read()[0].content == words


def test_a_reader_that_stays_keeps_the_log_and_is_told_of(tmp_path, store):
    key = KEY if store.database.vault.encrypted else None
    with contextlib.closing(open_store(tmp_path / "store", key)) as other:
        store.database.connection.execute("PRAGMA busy_timeout = 20")
        with other.database.reading() as connection:
            connection.execute("SELECT COUNT(*) FROM messages").fetchone()
            with pytest.raises(UserError, match="another process has been reading"):
                store.user("ann").delete()
        assert [problem[:11] for problem in check(store).problems] == ["1 deletions"]
        assert finish_deletions(other.database) == 1
    assert anywhere(tmp_path, b"that he likes the tea of ann", store.user("ann").identity) == []
    assert check(store).problems == () and finish_deletions(store.database) == 0


def test_a_deletion_that_was_cut_short_is_made_up_for_by_the_next_one(tmp_path, store, monkeypatch):
    class Killed(BaseException):
        pass

    def stop(database):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Database, "truncate_log", stop)
        with pytest.raises(Killed):
            store.user("ann").delete()
    assert anywhere(tmp_path, store.user("ann").identity)  # in the log
    assert store.user("bob").delete().rebuilt
    assert anywhere(tmp_path, *(user_id(store.database.vault, user) for user in USERS[:2])) == []
    assert check(store).problems == ()


def test_damaged_rows_are_deleted_as_well(tmp_path, store):
    connection, ann = store.database.connection, store.user("ann")
    connection.execute("UPDATE messages SET body = x'00' WHERE user = ?", (ann.identity,))
    connection.execute("UPDATE users SET key = x'00' WHERE user = ?", (ann.identity,))
    assert ann.delete().messages == 40 and check(store).problems == ()
