"""The command `store`, from a log to a deletion."""

import json

import pytest
import tyro

from experiments.common.files.json_rows import read_rows
from experiments.persona_leakage.commands.store import store
from experiments.persona_leakage.learning.adapter_folders import adapter_folder
from gdpo_jax.errors import UserError

LOG = [
    {
        "id": f"of-{user}",
        "user": user,
        "turns": [
            {"role": "user", "content": f"I am {user}, how do I make tea?"},
            {"role": "assistant", "content": f"Boil water, dear {user}."},
        ],
    }
    for user in ("ann", "bob")
]


@pytest.fixture
def run(tmp_path, capsys):
    """A function that runs the command on a store of its own, and returns what it printed."""

    def run(*arguments, place=("--store", str(tmp_path / "store"))):
        tyro.cli(store, args=[*map(str, arguments), *place])
        return " ".join(capsys.readouterr().out.split())

    return run


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in LOG))
    return path


def test_from_a_log_to_a_deletion(tmp_path, run, log):
    key, out = tmp_path / "key", tmp_path / "ann.jsonl"
    run("key", key, place=())
    assert "4 new messages, 0 were" in run("import", log, "--key-file", key)
    assert "0 new messages, 4 were" in run("import", log, "--key-file", key)
    assert "2 users, 4 messages" in run("users", "--key-file", key)
    assert "is whole: 2 users, 4 messages" in run("check", "--key-file", key)
    run("export", "ann", "--out", out, "--key-file", key)
    rows = read_rows(out)
    assert [row["content"] for row in rows] == [turn["content"] for turn in LOG[0]["turns"]]
    assert {row["user"] for row in rows} == {"ann"} and out.stat().st_mode & 0o077 == 0
    trained = tmp_path / "run"
    adapters = [adapter_folder(trained / "seed-0" / "adapters", user) for user in ("ann", "bob")]
    for folder in adapters:
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_bytes(b"numbers")
    with pytest.raises(UserError, match="no run folder"):
        run("delete", "ann", "--runs", trained, "--key-file", key)
    (trained / "preset.json").write_text("{}")
    told = run("delete", "ann", "--runs", trained, "--key-file", key)
    assert "1 adapters deleted" in told
    assert not adapters[0].exists() and adapters[1].is_dir()
    assert "2 messages, 0 artefacts and 0 files deleted" in told and "no trace in" in told
    assert "is whole: 1 users, 2 messages" in run("check", "--finish", "--key-file", key)
    with pytest.raises(UserError, match="no user 'ann'"):
        run("delete", "ann", "--key-file", key)
    with pytest.raises(UserError, match="give its master key"):
        run("users")


def test_the_curve_over_strengths(tmp_path, run, log):
    run("import", log)
    path = tmp_path / "strengths.jsonl"
    ann, bob = ({"user": user, "strength": g} for user, g in (("ann", 0.5), ("bob", 0.25)))
    path.write_text("\n".join(map(json.dumps, ({**ann, "leakage": 0.4}, {**bob, "leakage": 0.2}))))
    assert "│ 0.25 │ 0.500 │" in run("curve", path) and "0.3000" in run("curve", path)
    assert "│ 0.3 │ 0.500 │" in run("curve", path, "--gammas", "0.3")
    for row, problem in [
        ({**ann, "user": "cleo"}, "'cleo' is not in"),
        ({**bob}, "'bob' stands twice"),
        ({**ann, "strength": "much"}, "row 2, field 'strength'"),
        ({**ann, "gamma": 1}, "unknown field 'gamma'"),
    ]:
        path.write_text(json.dumps(bob) + "\n" + json.dumps(row))
        with pytest.raises(UserError, match=problem):
            run("curve", path)


def test_what_is_pooled_is_of_those_who_are_not_isolated(tmp_path, run, log):
    run("import", log)
    path, out = tmp_path / "strengths.jsonl", tmp_path / "pool.jsonl"
    ann, bob = ({"user": user, "strength": g} for user, g in (("ann", 0.5), ("bob", 0.25)))
    for rows, gamma, pooled in [
        ((ann, bob), "0.3", ["bob"]),
        ((bob, ann), "0.3", ["bob"]),  # the order of users does not matter
        ((ann, bob), "inf", ["ann", "bob"]),
        ((bob, ann), "0", []),
        ((bob,), "inf", ["bob"]),  # nobody measured ann
    ]:
        path.write_text("\n".join(map(json.dumps, rows)))
        told = run("pool", path, "--gamma", gamma, "--out", out)
        assert f"{len(pooled)} conversations of {len(pooled)} users; 2 are in the store" in told
        found = [json.loads(line) for line in out.read_text().splitlines()]
        assert found == [row for row in LOG if row["user"] in pooled]
        assert out.stat().st_mode & 0o077 == 0
    path.write_text(json.dumps({**ann, "user": "cleo"}))
    with pytest.raises(UserError, match="'cleo' is not in"):
        run("pool", path, "--gamma", "1", "--out", out)


def test_nothing_is_made_where_a_store_is_only_read(tmp_path, run):
    (tmp_path / "store").mkdir()
    for arguments in (["users"], ["check"], ["delete", "ann"]):
        with pytest.raises(UserError, match="no store in"):
            run(*arguments)
    assert not list((tmp_path / "store").iterdir())


def test_damage_is_told(tmp_path, run, log):
    run("import", log)
    (tmp_path / "store" / "artefacts" / "of-nobody").mkdir()
    with pytest.raises(UserError, match="has problems:\nfiles of no user"):
        run("check")
