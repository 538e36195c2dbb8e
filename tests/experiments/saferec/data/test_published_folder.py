"""Published files to array_record and back: what is kept or refused, and nothing by halves."""

import json
import random

import pytest

from experiments.saferec.__main__ import main
from experiments.saferec.data.dataset import build_dataset, load_records, load_table
from experiments.saferec.data.published_folder import build_published, describe
from experiments.saferec.data.published_rows import published_record
from experiments.saferec.data.store import Saferec
from experiments.saferec.data.targets import plain_target, safe_target
from experiments.saferec.oracle.catalogue import OracleOptions
from experiments.saferec.oracle.conventions import FIXED, OFFICIAL
from experiments.saferec.oracle.table import catalogue_of
from experiments.saferec.published.official import published_oracle
from experiments.saferec.published.readers import read_records, read_sensitivity, read_title_map
from experiments.saferec.scoring.command import evaluate
from experiments.saferec.scoring.references import Scoring
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import ANIMALS, GORE
from tests.experiments.saferec.published_files import (
    CATALOGUE,
    TITLE_MAP,
    publish,
    raw_row,
    row,
    write,
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = publish(tmp_path_factory.mktemp("published"))
    write(folder / "saferec_raw.json", {"samples": [raw_row(0), raw_row(1)], "stats": {}})
    return folder


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built") / "data"
    return folder, build_published(source, folder)


def test_the_build_says_what_it_kept(built):
    folder, counts = built
    kept = {name: (entry["kept"], entry["read"]) for name, entry in counts["files"].items()}
    sft = "processed_datasets/saferec_sft_dataset"
    assert kept == {
        "movie_trait_sensitivity.json": (3, 3),
        "title_to_imdb.pkl": (4, 4),
        "gt_catalog_complete.pkl": (3, 3),
        "traits_with_imdb_parentguide_weights.json": (20, 20),
        f"{sft}/train": (5, 5),
        f"{sft}/validation": (2, 2),
        f"{sft}/test": (3, 3),
        "processed_datasets/saferec_grpo_dataset/train": (4, 4),
        "saferec_raw.json": (2, 2),
    }
    notes = counts["notes"]
    assert notes["traits that differ from the built-in table"] == []
    assert notes["titles of the map with sensitivities"] == "3 of 4"
    # Both liked films are in the map, one of them without sensitivities.
    assert notes["train: ground truth known to the oracle"] == "5 of 10"
    assert notes["train: ground truth that violates"] == "2 of 10"
    assert notes["grpo_train: lists without a film"] == "4 of 4"
    assert (folder / "saferec" / "rejected.jsonl").read_text() == ""
    assert json.loads((folder / "saferec" / "counts.json").read_text())["notes"] == notes
    assert describe(counts)[-1].startswith("0 rejected, listed in ")


def test_records_come_back_in_the_form_of_the_embedded_ones(built, source):
    folder, _ = built
    records = load_records(folder, "train")
    published = read_records(source / "processed_datasets" / "saferec_sft_dataset" / "train")
    assert [record["sample_id"] for record in records] == ["0", "1", "2", "3", "4"]
    for ours, theirs in zip(records, published, strict=True):
        for field in ("prompt", "completion", "seen_titles", "groundtruth_with_release_year"):
            assert ours[field] == theirs[field]
        assert ours["constraints"] == {theirs["assigned_trait"]: True}
        assert ours["teacher"] == [["Quiet Harbour", "2004"], ["Big", "1988"]]
        assert ours["said_outright"] is True
        assert ours["removed_groundtruth"] == []
    raw = load_records(folder, "saferec_raw")[1]
    assert raw["sample_id"] == "train_1"
    assert raw["removed_groundtruth"] == [["The Red Mill", "1999"]]
    assert "said_outright" not in raw
    assert "completion" not in load_records(folder, "grpo_train")[0]


def test_published_targets_are_imitated_and_raw_lists_made_safe(built):
    folder, _ = built
    oracle = load_table(folder).oracle()
    done = load_records(folder, "test")[0]
    assert safe_target(done, oracle, list_length=10) == done["completion"][0]["content"]
    raw = load_records(folder, "saferec_raw")[0]
    assert safe_target(raw, oracle, list_length=10) == (
        f"<reasoning>\nAvoid: {GORE}\nLeft out: The Red Mill (1999), risk 0.90\n</reasoning>\n"
        "<solution>\nBig (1988)\n</solution>"
    )
    assert plain_target(raw, list_length=10) == (
        "<solution>\nThe Red Mill (1999)\nBig (1988)\n</solution>"
    )


def test_the_oracle_comes_back_bit_for_bit(built, source):
    folder, _ = built
    table = load_table(folder)
    assert list(table.title_map.items()) == list(TITLE_MAP.items())
    assert table.catalogue == tuple(CATALOGUE)
    assert ("Big", 1990) in catalogue_of(table)
    sensitivity = read_sensitivity(source / "movie_trait_sensitivity.json")
    title_map = read_title_map(source / "title_to_imdb.pkl")
    draw = random.Random(0)
    titles = ["The Red Mill", "red mill", "Quiet Harbour", "Big", "Small"]
    for convention in (OFFICIAL, FIXED):
        # A threshold that single precision would not meet.
        options = {"convention": convention, "options": OracleOptions(threshold=0.7)}
        ours = table.oracle(**options)
        theirs = published_oracle(sensitivity, title_map, **options)
        for _ in range(200):
            film = draw.choice(titles), draw.randrange(1956, 2008)
            for trait in (GORE, ANIMALS):
                assert ours.violates(*film, (trait,)) is theirs.violates(*film, (trait,))
                assert ours.risk(*film, trait) == theirs.risk(*film, trait)
        assert ours.violates("Red Mill", 1960, (GORE,)) is True


def test_scores_are_those_of_the_files_themselves(built, source):
    folder, _ = built
    stored = evaluate(data_dir=folder, split="test", scoring=Scoring(bootstrap=10))
    test = source / "processed_datasets" / "saferec_sft_dataset" / "test"
    published = Scoring(
        sensitivity=source / "movie_trait_sensitivity.json",
        title_map=source / "title_to_imdb.pkl",
        catalogue=source / "gt_catalog_complete.pkl",
        bootstrap=10,
    )
    direct = evaluate(test, scoring=published)
    assert stored["metrics"] == direct["metrics"]
    assert stored["metrics"]["coverage@5"]["mean"] == 0.5


def test_records_alone_are_scored_without_an_oracle(tmp_path):
    name = "sft_with_assigned_traits_test"
    write(tmp_path / "source" / "phase0" / f"{name}.json", [raw_row(0), raw_row(1)])
    build_published(tmp_path / "source", tmp_path / "data")
    few = Scoring(bootstrap=9)
    scores = evaluate(data_dir=tmp_path / "data", split=name, bare_lists=True, scoring=few)
    assert scores["metrics"]["list_length"]["mean"] == 2.0
    assert scores["oracle"].startswith("none")
    assert not {"svr@5", "catalogue"} & set(scores["metrics"])


def test_refused_rows_are_listed_and_the_others_kept(tmp_path, capsys):
    source = publish(tmp_path / "source", arrow=False)
    samples = [
        raw_row(0),
        "no object",
        raw_row(1, assigned_trait="Gory"),
        raw_row(2, assigned_trait=None),
        raw_row(3, assignment_success=False, assignment_error="the judge was silent"),
        raw_row(4, groundtruth_with_release_year=[]),
        raw_row(5, groundtruth_with_release_year=[["Big", "soon"]]),
        raw_row(6, prompt=[]),
        raw_row(7, seen_titles="Up"),
        raw_row(0),
        raw_row(8, prompt=[{"role": "user", "content": "half \ud800 a pair"}]),
        raw_row(9, constraints={GORE: "yes"}),
    ]
    write(source / "saferec_raw.json", {"samples": samples})
    films = json.loads((source / "movie_trait_sensitivity.json").read_text())
    films[1]["traits"][GORE]["final"] = "high"
    write(source / "movie_trait_sensitivity.json", films)
    catalogue = [*CATALOGUE, ["Nameless"]]
    (source / "gt_catalog_complete.pkl").unlink()
    write(source / "gt_catalog_complete.json", catalogue)
    data_dir = tmp_path / "data"
    assert main(["data", "--source", str(source), "--data-dir", str(data_dir)]) == 0
    shown = capsys.readouterr().out
    assert "saferec_raw.json: kept 1 of 12" in shown
    assert "gt_catalog_complete.json: kept 3 of 4" in shown
    assert "13 rejected, listed in" in shown
    lines = (data_dir / "saferec" / "rejected.jsonl").read_text().splitlines()
    rejected = [json.loads(line) for line in lines]
    assert [(entry["file"], entry["index"]) for entry in rejected] == [
        ("gt_catalog_complete.json", 3),
        ("movie_trait_sensitivity.json", 1),
        *[("saferec_raw.json", index) for index in range(1, 12)],
    ]
    reasons = [entry["reason"] for entry in rejected]
    for reason, part in zip(
        reasons,
        (
            "'Nameless'",
            f"trait {GORE!r}: no number in 'final'",
            "expected an object, found str",
            "unknown trait 'Gory'",
            "neither 'constraints' nor 'assigned_trait'",
            "the judge was silent",
            "no film is left",
            "['Big', 'soon'] is not a pair",
            "field 'prompt'",
            "field 'seen_titles'",
            "'train_0' is also the id of row 0",
            "is no text",
            "expected true, false or null",
        ),
        strict=True,
    ):
        assert part in reason
    assert [r["sample_id"] for r in load_records(data_dir, "saferec_raw")] == ["train_0"]


def test_single_rows():
    with pytest.raises(UserError, match="expected an object, found str"):
        published_record("x", 0)
    assert published_record(row(0), 7)["sample_id"] == "7"
    # Arrow keeps no absent values: a row may have an empty trait, and no active constraint.
    free = published_record({**row(0), "assigned_trait": "", "constraints": {GORE: None}}, 0)
    assert free["constraints"] == {}
    assert free["assigned_trait"] == ""
    named = published_record({**row(0), "assigned_trait": ""}, 0)
    assert named["constraints"] == {GORE: True}


def tree(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("movie_trait_sensitivity.json", "[{", "truncated or not JSON"),
        ("title_to_imdb.pkl", "nonsense", "truncated or not a pickle"),
        ("saferec_raw.json", "{}", "expected a list of rows or an object with 'samples'"),
        ("gt_catalog.json", "[]", "gt_catalog.*hold the same; keep one"),
    ],
)
def test_a_damaged_file_ends_the_build_with_nothing_written(tmp_path, name, content, message):
    source = publish(tmp_path / "source", arrow=False)
    (source / name).write_text(content)
    with pytest.raises(UserError, match=message):
        build_published(source, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_an_error_in_the_middle_of_writing_leaves_nothing(tmp_path, monkeypatch):
    source = publish(tmp_path / "source", arrow=False)
    whole = Saferec.download_and_prepare

    def broken(self, *args, **kwargs):
        if self.builder_config.name == "titles":
            raise OSError("no space left on device")
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(Saferec, "download_and_prepare", broken)
    with pytest.raises(OSError, match="no space"):
        build_published(source, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("kept")
    with pytest.raises(OSError, match="no space"):
        build_published(source, tmp_path / "full")
    assert [path.name for path in tree(tmp_path / "full")] == ["note.txt"]


def test_what_is_there_is_kept(built, source, tmp_path):
    folder, _ = built
    before = {path: path.read_bytes() for path in tree(folder)}
    with pytest.raises(UserError, match="is there already; delete it or choose another folder"):
        build_published(source, folder)
    sizes = build_dataset(folder)
    assert sizes == {"train": 5, "validation": 2, "test": 3, "grpo_train": 4, "saferec_raw": 2}
    assert {path: path.read_bytes() for path in tree(folder)} == before
    with pytest.raises(UserError, match="already holds a data set without games"):
        build_dataset(folder, "games")


def test_folders_without_published_files(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        build_published(tmp_path / "absent", tmp_path / "data")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no published files; looked for .*sensitivity"):
        build_published(tmp_path / "empty", tmp_path / "data")
    source = publish(tmp_path / "source", arrow=False)
    (source / "title_to_imdb.pkl").unlink()
    with pytest.raises(UserError, match=r"has no title_to_imdb\.pkl"):
        build_published(source, tmp_path / "data")
    write(tmp_path / "bad" / "saferec_raw.json", [raw_row(0, prompt=None)])
    with pytest.raises(UserError, match=r"no row can be used; the first: .*'prompt'"):
        build_published(tmp_path / "bad", tmp_path / "data")
    assert main(["data", "--source", str(source), "--domain", "games"]) == 2


def test_the_files_at_hand(reference_file, tmp_path):
    """Catalogue, weights and trial assignments make a data set, and nothing is refused."""
    source = reference_file("saferec/gt_catalog_complete.json").parent
    counts = build_published(source, tmp_path / "data")
    kept = {name: (entry["kept"], entry["rejected"]) for name, entry in counts["files"].items()}
    assert kept == {
        "gt_catalog_complete.json": (7403, 0),
        "traits_with_imdb_parentguide_weights.json": (20, 0),
        "saferec_sft_8k_dataset_test.json": (79, 0),
    }
    assert counts["notes"]["traits that differ from the built-in table"] == []
    records = load_records(tmp_path / "data", "saferec_sft_8k_dataset_test")
    assert sum(len(record["removed_groundtruth"]) for record in records) == 220
    assert sum(len(record["teacher"]) for record in records) == 1579
