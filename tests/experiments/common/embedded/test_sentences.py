"""Sentences of one split never appear in another, and every frame appears in all."""

import numpy as np
import pytest

from experiments.common.embedded.sentences import (
    NoInstance,
    draw_one,
    draw_sentence,
    instance_split,
)

FRAMES = ("no {x}, please", "avoid {x}")
WORDS = tuple(f"word{n}" for n in range(40))
SPLITS = ("train", "validation", "test")


def drawn(split, count, seed=0):
    rng = np.random.default_rng(seed)

    def slots():
        return {"x": str(rng.choice(WORDS))}

    return [draw_sentence(rng, split, FRAMES, slots) for _ in range(count)]


def test_splits_share_frames_and_fillers_and_no_sentence():
    found = {split: set(drawn(split, 200)) for split in SPLITS}
    assert not found["train"] & found["test"] and not found["validation"] & found["test"]
    for split, texts in found.items():
        assert {instance_split(text) for text in texts} == {split}
        assert {text.split()[0] for text in texts} == {"No", "Avoid"}


def test_one_in_ten_is_test_and_one_in_ten_validation():
    splits = [instance_split(f"sentence {n}") for n in range(10_000)]
    assert 900 < splits.count("test") < 1100 and 900 < splits.count("validation") < 1100


def test_a_sentence_without_an_instance_of_the_split_is_said_to_have_none():
    text = "Avoid needles"
    other = next(split for split in SPLITS if split != instance_split(text))
    with pytest.raises(NoInstance):
        draw_sentence(np.random.default_rng(0), other, ("avoid {x}",), lambda: {"x": "needles"})


def test_one_choice_is_the_one_that_numpy_draws():
    """Embedded data sets were drawn by it, and results rest on them."""
    ours, numpys = np.random.default_rng(5), np.random.default_rng(5)
    assert [draw_one(ours, WORDS) for _ in range(50)] == [numpys.choice(WORDS) for _ in range(50)]
    assert ours.random() == numpys.random()
