"""The data set on disk: what is written is read back; whole or not at all."""

import json

import numpy as np
import pytest

from experiments.persona_leakage.commands.data import data
from experiments.persona_leakage.data.contents import contents
from experiments.persona_leakage.data.logs import read_logs
from experiments.persona_leakage.data.population import population
from experiments.persona_leakage.data.tfds_builder import load_about, load_rows, write_dataset
from gdpo_jax.errors import UserError


def test_what_is_written_is_read_back(persona_data):
    rows = contents(population(0), ordinary=3, of_each=1, sessions=1)
    for config, splits in rows.items():
        for split, found in splits.items():
            read = load_rows(persona_data / "data", config, split)
            for row in read:
                row.pop("recognised", None)
            assert read == found
    sizes = {"ordinary": 3, "of_each": 1, "sessions": 1, "writers": 12}
    about = load_about(persona_data / "data")
    assert about["seed"] == 0 and about["sizes"] == sizes
    sessions = about["sessions"]  # one score of each owner and stranger of test
    assert (len(sessions["genuine"]), len(sessions["impostor"])) == (24, 12)
    conversations = {row["conversation"] for row in rows["exchanges"]["train"]}
    assert {one.id for one in read_logs(persona_data / "log.jsonl")} == conversations


def test_owners_are_recognised_more_often_than_strangers_are_taken_for_one(persona_data):
    for split in ("validation", "test"):
        read = load_rows(persona_data / "data", "probes", split)
        right = [row["recognised"] == row["user"] for row in read if row["role"] == "owner"]
        taken = [row["recognised"] != "" for row in read if row["role"] == "stranger"]
        assert np.mean(right) > 0.25 and np.mean(taken) < 0.5


def test_what_cannot_be_written_or_read(persona_data, tmp_path):
    with pytest.raises(UserError, match="is there already; delete it"):
        data(persona_data / "data")

    def fail(folder):
        (folder / "store").mkdir(parents=True)
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="the disk is full"):
        write_dataset(tmp_path / "new", {}, about={}, beside=fail)
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="--of-each must be at least 1"):
        data(tmp_path / "data", of_each=0)
    with pytest.raises(UserError, match=r"no probes in .*; run `python -m experiments.persona_le"):
        load_rows(tmp_path, "probes", "test")
    folder = tmp_path / "persona_leakage"
    folder.mkdir()
    (folder / "about.json").write_text(json.dumps([1]))
    with pytest.raises(UserError, match=r"about\.json holds no object"):
        load_about(tmp_path)
