"""What each arm learns from, and that no safety tuning without augmentation sees what only seems
toxic."""

import dataclasses

import pytest

from experiments.common.runs.arms import way_to
from experiments.common.runs.experiment import Data
from experiments.dcr.arms import ARMS, EXAMPLES, rewards, tokenizer
from experiments.dcr.data.generated import generate_triples
from experiments.dcr.data.instructions import generate_instructions
from experiments.dcr.data.sources import prompts_of
from experiments.dcr.presets import PRESETS
from experiments.dcr.records import own_part, record_of
from gdpo_jax.errors import UserError

PRESET = dataclasses.replace(PRESETS["smoke"], general=40, refusals=12, augmented=5)
PROMPTS = [*prompts_of(generate_triples("train", 40)), *generate_instructions("train", 20)]
DATA = Data(records={"train": [record_of(p, own_part(p)) for p in PROMPTS]})


def examples(name, preset=PRESET):
    return EXAMPLES[name](DATA, preset)


def kinds(rows):
    return {
        kind: sum(row["kind"] == kind for row in rows) for kind in ("plain", "seeming", "toxic")
    }


def test_safety_tuning_sees_plain_and_toxic_prompts_alone():
    assert kinds(examples("safety")) == {"plain": 40, "seeming": 0, "toxic": 12}
    assert all(row["completion"] == row["answer"] for row in examples("safety"))
    assert kinds(examples("augmented")) == {"plain": 40, "seeming": 5, "toxic": 12}


def test_refinement_and_safety_tuning_share_no_text():
    assert kinds(examples("contrast"))["plain"] == 0
    contrast = {row["text"] for row in examples("contrast")}
    assert min(kinds(examples("contrast"))[kind] for kind in ("seeming", "toxic")) > 5
    assert contrast.isdisjoint(row["text"] for row in examples("safety"))


def test_dcr_differs_from_safety_tuning_in_refinement_alone():
    by_name = {arm.name: arm for arm in ARMS}
    assert by_name["dcr"].stage == by_name["stl"].stage
    assert by_name["dcr-gdpo"].stage == by_name["gdpo"].stage
    way = [arm.name for arm in way_to(ARMS, by_name["dcr-gdpo"], published=True)]
    assert way == ["refined", "dcr", "dcr-gdpo"]


def test_the_rewards_are_those_of_the_arm():
    arm = next(arm for arm in ARMS if arm.name == "gdpo")
    names = [function.__name__ for function in rewards(arm, DATA, PRESET).functions]
    assert names == ["refuses", "complies", "helpful", "ends"]


def test_a_new_tokenizer_knows_what_is_said_and_the_buckets_of_the_miniature_hold_it():
    found = tokenizer(DATA, PRESETS["mini"])
    sft = PRESETS["mini"].stages["sft"].run
    for row in (*examples("language"), *examples("safety")):
        assert len(found.encode(row["prompt"][0]["content"])) <= max(sft.prompt_buckets)
        assert len(found.encode(row["completion"])) < max(sft.completion_buckets)


def test_safety_tuning_without_one_side_is_an_error():
    with pytest.raises(UserError, match="40 plain prompts and 0 toxic"):
        examples("safety", dataclasses.replace(PRESET, refusals=0))


def test_a_share_of_refusals_that_would_fall_on_one_kind_is_an_error():
    with pytest.raises(UserError, match="refused_one_in is 9"):
        dataclasses.replace(PRESET, refused_one_in=9)
