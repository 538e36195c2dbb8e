"""The data set on disk: what is written is read back; whole or not at all."""

import json

import pytest

from experiments.curate.data.generated import SPLITS, generate_examples
from experiments.curate.data.sources import open_cases
from experiments.curate.data.tfds_builder import (
    Curate,
    load_cases,
    load_examples,
    split_sizes,
    write_dataset,
)
from gdpo_jax.errors import UserError

SCENARIOS = ("sc5", "sc1", "sc1-control", "sc3-hh", "mirror-sc3-middle")


@pytest.fixture(scope="module")
def cases():
    return open_cases(scenarios=SCENARIOS, limit=8)


@pytest.fixture(scope="module")
def examples():
    return {split: generate_examples(split, 4) for split in SPLITS}


@pytest.fixture(scope="module")
def built(cases, examples, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("built") / "data"
    write_dataset(data_dir, cases, examples, about={"seed": 0})
    return data_dir


def test_what_is_written_is_read_back(built, cases, examples):
    assert load_cases(built, SCENARIOS) == cases
    assert load_cases(built, ["sc1-control"]) == [c for c in cases if c.scenario == "sc1-control"]
    everything = load_cases(built)
    assert sorted(everything, key=lambda case: case.id) == sorted(cases, key=lambda case: case.id)
    assert {split: load_examples(built, split) for split in SPLITS} == examples
    assert split_sizes(built, "examples") == dict.fromkeys(SPLITS, 8)
    assert split_sizes(built, "cases")["sc3_hh"] == 8
    assert json.loads((built / "curate" / "about.json").read_text()) == {"seed": 0}


def test_a_data_set_is_not_written_over(built, cases):
    with pytest.raises(UserError, match="is there already; delete it"):
        write_dataset(built, cases[:1], about={})
    assert load_cases(built, SCENARIOS) == cases


def test_nothing_is_left_of_an_interrupted_write(tmp_path, cases, examples, monkeypatch):
    prepare = Curate.download_and_prepare

    def interrupted(self):
        prepare(self)
        if self.builder_config.name == "examples":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Curate, "download_and_prepare", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_dataset(tmp_path / "new", cases, examples, about={})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="there are no cases"):
        write_dataset(tmp_path / "new", [], about={})
    assert list(tmp_path.iterdir()) == []


def test_missing_parts(tmp_path, built, cases):
    with pytest.raises(UserError, match=r"no cases in .*; run `python -m experiments\.curate data"):
        load_cases(tmp_path)
    with pytest.raises(UserError, match=r"has no split 'sc2'; it has \["):
        load_cases(built, ["sc2"])
    write_dataset(tmp_path / "plain", cases[:3], about={})
    with pytest.raises(UserError, match="no examples in"):
        load_examples(tmp_path / "plain", "train")
