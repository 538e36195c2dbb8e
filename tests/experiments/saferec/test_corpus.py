"""A folder of published files as a corpus: found by name, checked, and what each arm imitates."""

import json

import pytest

from experiments.saferec.corpus import published_corpus, with_all_groundtruth
from experiments.saferec.traits import TRAIT_KEYS
from gdpo_jax.errors import UserError

TRAIT = TRAIT_KEYS[0]
SAFE = "<solution>\nFilm B (2001)\n</solution>"


def record(number: int, text: str) -> dict:
    return {
        "sample_id": f"r{number}",
        "prompt": [{"role": "user", "content": f"Question {number}"}],
        "completion": [{"role": "assistant", "content": text}],
        "seen_titles": [],
        "groundtruth_with_release_year": [["Film B", "2001"]],
        "removed_groundtruth": [{"title": "Film A", "year": "2000", "trait_info": {}}],
        "constraints": {TRAIT: True, TRAIT_KEYS[1]: None},
    }


def write(folder, *, text=SAFE, policy=False, leave_out=()):
    """Everything that the authors publish, with two films."""
    rows = [record(number, text) for number in range(2)]
    files = {
        **{
            f"saferec_sft_dataset/{split}.jsonl": "\n".join(map(json.dumps, rows))
            for split in ("train", "validation", "test")
        },
        "movie_trait_sensitivity.json": json.dumps(
            [
                {"imdbId": "1", "traits": {TRAIT: {"final": 1.0}}},
                {"imdbId": "2", "traits": {TRAIT: {"final": 0.0}}},
            ]
        ),
        "title_to_imdb.json": json.dumps([["film a", 2000, "1"], ["film b", 2001, "2"]]),
        "gt_catalog_complete.json": json.dumps([["Film A", 2000], ["Film B", 2001]]),
    }
    if policy:
        files["saferec_grpo_dataset/train/rows.txt"] = ""
    for name, content in files.items():
        if name not in leave_out:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
    return folder


def test_a_published_folder_is_read(tmp_path):
    corpus = published_corpus(write(tmp_path))
    assert [row["sample_id"] for row in corpus.records["train"]] == ["r0", "r1"]
    assert corpus.records["policy"] == corpus.records["train"]
    assert corpus.oracle.violates("Film A", 2000, (TRAIT,)) is True
    assert corpus.oracle.violates("Film B", 2001, (TRAIT,)) is False
    assert ("Film A", 2001) in corpus.catalogue
    assert corpus.examples("safe-sft", 10, 1) == [("Question 0", SAFE), ("Question 1", SAFE)]


def test_reinforcement_learning_has_records_of_its_own_where_they_are(tmp_path):
    with pytest.raises(UserError, match=r"saferec_grpo_dataset/train is no save_to_disk folder"):
        published_corpus(write(tmp_path, policy=True))


def test_safe_targets_are_no_raw_lists_and_the_other_way_round(tmp_path):
    safe = published_corpus(write(tmp_path / "safe"))
    with pytest.raises(UserError, match=r"record 'r0': .* the arm sft imitates raw lists"):
        safe.examples("sft", 10, 1)
    raw = published_corpus(write(tmp_path / "raw", text="Film A (2000)\nFilm B (2001)"))
    with pytest.raises(UserError, match=r"record 'r0': .* no closed <solution> block"):
        raw.examples("safe-sft", 10, 1)
    _, target = raw.examples("sft", 10, 1)[0]
    assert target == "<solution>\nFilm A (2000)\nFilm B (2001)\n</solution>"


@pytest.mark.parametrize(
    "name",
    ["saferec_sft_dataset/test.jsonl", "movie_trait_sensitivity.json", "gt_catalog_complete.json"],
)
def test_what_is_missing_is_named(tmp_path, name):
    with pytest.raises(UserError, match=name.rsplit("/")[-1].split(".")[0]):
        published_corpus(write(tmp_path, leave_out=(name,)))


def test_removed_groundtruth_comes_back_in_both_forms():
    row = record(0, SAFE)
    all_liked = [["Film B", "2001"], ["Film A", "2000"]]
    assert with_all_groundtruth(row)["groundtruth_with_release_year"] == all_liked
    pairs = {**row, "removed_groundtruth": [["Film A", "2000"]]}
    assert with_all_groundtruth(pairs)["groundtruth_with_release_year"] == all_liked
    without = {name: value for name, value in row.items() if name != "removed_groundtruth"}
    assert with_all_groundtruth(without) == without
