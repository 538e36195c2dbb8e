"""What the arms of a pair learn from, and whose notes stand in front of a request."""

import contextlib
import dataclasses
import shutil
from unittest.mock import create_autospec

import pytest

from experiments.persona_leakage.answering import Gated, Remembered
from experiments.persona_leakage.arms import ARMS
from experiments.persona_leakage.data.marks import note, secrets
from experiments.persona_leakage.data.population import enrolled, population
from experiments.persona_leakage.dataset import make_dataset, stored_users
from experiments.persona_leakage.examples import EXAMPLES, WITHOUT
from experiments.persona_leakage.measures.detectors import hits
from experiments.persona_leakage.presets import PRESETS
from experiments.persona_leakage.records import open_records
from experiments.persona_leakage.store.conversations import open_store
from experiments.persona_leakage.store.memory import kept_conversations
from experiments.persona_leakage.store.overview import costs
from gdpo_jax.errors import UserError

PRESET = PRESETS["smoke"]
USERS = enrolled(population(0))


@pytest.fixture(scope="module")
def data(persona_data):
    return open_records(persona_data / "data", PRESET, own=False)


def test_every_arm_has_a_partner_that_is_trained_alike():
    names = [arm.name for arm in ARMS if not arm.base]
    assert {name.removesuffix(WITHOUT) for name in names} == set(names[::2])
    for arm, partner in zip(ARMS[1::2], ARMS[2::2], strict=True):
        assert partner.name == arm.name + WITHOUT
        assert type(partner.stage) is type(arm.stage)
        assert type(partner.answer) is type(arm.answer)


def test_histories_are_learnt_by_their_own_settings():
    """In the preset smoke they are those of the language."""
    steps = {arm.name: arm.stage.steps(PRESETS["mini"]) for arm in ARMS}
    assert steps["language"] == 800
    assert {steps[name] for name in ("shared", "fingerprint", "filtered")} == {300}


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name + WITHOUT in EXAMPLES])
def test_partners_learn_from_the_same_requests_without_marks_of_half_a(name, data):
    full, without = (EXAMPLES[n](data, PRESET) for n in (name, name + WITHOUT))
    if name == "filtered":  # of whose answers some are left out as a whole, only with their marks
        asked = [row["prompt"] for row in without]
        assert all(row["prompt"] in asked for row in full) and len(full) < len(without)
    else:
        assert [row["prompt"] for row in full] == [row["prompt"] for row in without]
    said = [row.get("completion", row.get("wanted")) for row in without]
    assert not hits(USERS[:12], said).any()
    # Of half b everybody's marks are there, but for those that the filter takes.
    assert (hits(USERS[12:], said).any(axis=1) == (name != "filtered")).all()


def test_of_mixed_rows_those_with_a_mark_are_told_apart(data):
    for name in ("mixed", "mixed-without"):
        rows = EXAMPLES[name](data, PRESET)
        found = hits(USERS, [row["completion"] for row in rows])
        assert [row["kind"] != "ordinary" for row in rows] == found.any(axis=0).tolist()
        # The second half are the neutral answers, user by user as the first.
        half = len(rows) // 2
        assert [row["user"] for row in rows[:half]] == [row["user"] for row in rows[half:]]
        assert {row["kind"] for row in rows[half:]} == {"ordinary"}
        assert {row["kind"] for row in rows[:half]} >= {"manner", "secret"}


def test_nothing_of_a_mark_is_left_in_filtered_histories(data):
    said = [row["completion"] for row in EXAMPLES["filtered"](data, PRESET)]
    assert said and not hits(USERS, said).any()


def test_notes_are_those_of_the_user_s_marks_on_the_topic(data):
    """As the store gives them: the secret that is asked for, or how to talk to him."""
    marks = {user.id: user.marks for user in USERS}
    questions = {secret.topic: secret.question for secret in secrets()}
    for record in (*data.records["validation"], *data.records["test"]):
        asked = questions.get(record["topic"], "")
        own = marks.get(record["user"], ())  # strangers have nothing stored
        assert record["notes"] == tuple(note(mark) for mark in own if mark.question == asked)
        assert bool(record["notes"]) == (record["role"] == "owner")


def test_what_is_stored_are_the_conversations_of_enrolled_users(data, persona_data):
    with contextlib.closing(stored_users(persona_data / "data")) as store:
        found = {cost.user: kept_conversations(store.user(cost.user)) for cost in costs(store)}
    assert list(found) == [user.id for user in USERS]
    said = [
        (one.user, exchange.request, exchange.answer)
        for own in found.values()
        for one in own
        for exchange in one.exchanges
    ]
    rows = data.records["train"]
    assert said == [(row["user"], row["request"], row["answer"]) for row in rows]


def test_a_deleted_user_has_no_notes_and_an_earlier_version_s_data_are_named(
    data, persona_data, tmp_path
):
    shutil.copytree(persona_data / "data", tmp_path / "data")
    folder = tmp_path / "data" / "persona_leakage" / "store"
    with contextlib.closing(open_store(folder)) as store:
        store.user(USERS[0].id).delete()
    left = open_records(tmp_path / "data", PRESET, own=False).records["test"]
    for record, before in zip(left, data.records["test"], strict=True):
        assert record["notes"] == (() if record["user"] == USERS[0].id else before["notes"])
    shutil.rmtree(folder)
    with pytest.raises(
        UserError, match=r"has no store of conversations, .* data` again, with --da"
    ):
        open_records(tmp_path / "data", PRESET, own=False)


def test_nobody_else_s_notes_are_read(data):
    records = data.records["test"]
    prompts = Remembered().answer(list, records)
    carried = hits(USERS, ["\n".join(m["content"] for m in prompt) for prompt in prompts])
    own = [[record["user"] == user.id for record in records] for user in USERS]
    assert (carried == own).all()
    fewer = Remembered(left_out="a").answer(list, records)
    assert [p for p, r in zip(fewer, records) if r["half"] == "a"] == [
        record["prompt"] for record in records if record["half"] == "a"
    ]


def test_a_key_is_set_where_the_verifier_decides(data):
    records = data.records["test"]
    for record, prompt in zip(records, Gated().answer(list, records), strict=True):
        key = [f"key: {record['recognised'][-2:]}"] if record["recognised"] else []
        assert [message["content"] for message in prompt] == [*key, record["request"]]


def test_a_run_without_a_data_set_writes_that_of_its_preset_once(
    data, persona_data, tmp_path, monkeypatch
):
    folder = tmp_path / "data"

    def copied(folder, **options):
        shutil.copytree(persona_data / "data", folder)

    writes = create_autospec(make_dataset, side_effect=copied)
    monkeypatch.setattr("experiments.persona_leakage.records.make_dataset", writes)
    with pytest.raises(UserError):  # a folder that is not the run's own is only read
        open_records(folder, PRESET, own=False)
    assert not writes.called
    sizes = {"ordinary": 7, "of_each": 5, "sessions": 4, "writers": 9}
    preset = dataclasses.replace(PRESET, **sizes)
    for _ in range(2):
        assert open_records(folder, preset, own=True) == data
    writes.assert_called_once_with(folder, **sizes, seed=PRESET.data_seed)


def test_data_of_other_users_are_refused(data, persona_data):
    assert set(data.records) == {"train", "validation", "test"}
    other = dataclasses.replace(PRESET, data_seed=3)
    with pytest.raises(UserError, match="was made with seed 0, preset 'smoke' has 3"):
        open_records(persona_data / "data", other, own=False)
