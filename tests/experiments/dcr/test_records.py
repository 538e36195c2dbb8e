"""Data sets as records: our own written once, and published sets apart from their test."""

import dataclasses

import pytest

from experiments.dcr.data.formats import XSTEST_CONTRASTS
from experiments.dcr.data.tfds_builder import write_dataset
from experiments.dcr.presets import PRESETS
from experiments.dcr.records import open_records
from experiments.dcr.settings import PublishedSources
from gdpo_jax.errors import UserError
from tests.experiments.dcr.safety_prompts import prompt

pytest.importorskip("tensorflow_datasets", reason="no tensorflow_datasets; install the extra tfds")

OWN = dataclasses.replace(PRESETS["smoke"], triples=4, held_out_triples=2)
PUBLISHED = dataclasses.replace(
    PRESETS["smollm2"],
    general=3,
    refusals=2,
    augmented=1,
    published=PublishedSources(held_out=("homonyms",), validation=("definitions",), alpaca=False),
)


def of_set(name, kind, count, **options):
    return [
        prompt(f"{name}/{n}", f"{name} text {n}", kind, source=name, **options)
        for n in range(count)
    ]


def test_our_own_prompts_are_written_once_and_read_again(tmp_path):
    first = open_records(tmp_path, OWN, True)
    assert {split: len(rows) for split, rows in first.records.items()} == {
        "train": 16,
        "validation": 8,
        "test": 8,
    }
    assert open_records(tmp_path, OWN, True) == first
    parts = {(row["kind"], row["part"]) for row in first.records["train"]}
    assert ("seeming", "refine") in parts and ("seeming", "align") not in parts


def write(folder, *, names=("xstest", "safety-tuned", "coconot-pref")):
    types = {**dict.fromkeys(XSTEST_CONTRASTS, "seeming")}
    types |= dict.fromkeys(XSTEST_CONTRASTS.values(), "toxic")
    sets = {
        "xstest": [
            prompt(f"xstest/{name}", f"about {name}", kind, type_=name, source="xstest")
            for name, kind in types.items()
        ],
        # One of them is XSTest's too, and must not be trained on.
        "safety-tuned": [
            *of_set("safety-tuned", "toxic", 3, answer="I cannot."),
            prompt("safety-tuned/x", "About contrast homonyms", "toxic", answer="No."),
        ],
        "coconot-pref": of_set("coconot-pref", "seeming", 2, answer="Yes."),
    }
    about = of_set("instructions", "plain", 4, answer="Fine.")
    contents = {
        "published": {name: sets[name] for name in names},
        "instructions": {split: about for split in ("train", "validation", "test")},
    }
    write_dataset(folder, contents, about={})


def test_published_sets_are_divided_by_what_they_are_for(tmp_path):
    write(tmp_path)
    records = open_records(tmp_path, PUBLISHED, False).records
    parts = {}
    for row in records["train"]:
        parts.setdefault(row["part"], []).append(row)
    assert len(parts["refine"]) == len(XSTEST_CONTRASTS) - 2 + 6
    assert [row["source"] for row in parts["align"]] == ["instructions"] * 3 + ["safety-tuned"] * 2
    assert [row["source"] for row in parts["augment"]] == ["coconot-pref"]
    held = [row for row in records["test"] if row["source"] == "xstest"]
    assert {row["type"] for row in held} == {"homonyms", "contrast_homonyms"}
    chosen = [row for row in records["validation"] if row["source"] == "xstest"]
    assert {row["type"] for row in chosen} == {"definitions", "contrast_definitions"}
    tested = {row["text"].lower() for row in (*held, *chosen)}
    assert tested.isdisjoint(row["text"].lower() for row in records["train"])


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match="'smollm2' learns from published sets: write them by"):
        open_records(tmp_path, PUBLISHED, True)
    write(tmp_path, names=("xstest", "coconot-pref"))
    with pytest.raises(UserError, match="safety_tuned"):
        open_records(tmp_path, PUBLISHED, False)
