"""Labels by votes: unanimity of all attitudes, and votes that cannot be read."""

import json

import pytest

from experiments.persona_leakage.published.cimemories import read_cimemories
from experiments.persona_leakage.published.votes import (
    ATTITUDES,
    WEIGHTS,
    combine,
    read_vote,
    vote_identity,
    vote_labels,
)
from gdpo_jax.errors import UserError
from tests.experiments.curate.stub_models import Stub
from tests.experiments.persona_leakage.published_files import profile_file


def vote(share, private):
    return frozenset(share), frozenset(private)


def test_only_unanimous_votes_label():
    assert sum(WEIGHTS.values()) == pytest.approx(1) and WEIGHTS.keys() == ATTITUDES.keys()
    votes = {
        "strict": [vote({1}, {2, 3}), vote({1}, {2, 3})],
        "balanced": [vote({1}, {2}), vote({1, 3}, {2})],
        "open": [vote({1, 3}, {2})],
    }
    labels = combine(votes, ["a", "b", "c"])
    # 3 is private for the strict alone.
    assert labels.necessary == {"a"} and labels.private == {"b"}


def test_a_vote_is_read_or_refused():
    assert read_vote('Here: {"share": [1, 2], "private": [2, 4]}', 4) == vote({1, 2}, {4})
    for text in (
        "none",
        '{"share": [1]}',
        '{"share": [5], "private": []}',
        '{"share": [0], "private": []}',
        '{"share": [true], "private": []}',
        '{"share": ["1"], "private": []}',
        '{"share": {}, "private": []}',
    ):
        with pytest.raises(UserError):
            read_vote(text, 4)


def test_all_contexts_are_voted_on_with_draws_of_their_own(tmp_path):
    [profile] = read_cimemories(profile_file(tmp_path))

    def says(messages):
        text = messages[0]["content"]
        if "distrust" in text and len(model.asked) == 1:
            return "I would rather not say."
        return json.dumps({"share": [2], "private": [3] if "Bank" in text else []})

    model = Stub(says)
    labels = vote_labels(model, profile, votes=2)
    assert len(model.asked) == 3 * 3 * 2
    assert {limits.sample for _, _, limits in model.asked} == {0, 1}
    assert labels[0].necessary == {"mortgage_sum"} and labels[0].private == {"skin_ailment"}
    assert labels[1].private == frozenset()
    with pytest.raises(UserError, match=r"cimemories/0/0, strict: none of 1 votes can be read"):
        vote_labels(Stub(lambda messages: "no"), profile, votes=1)
    assert vote_identity(model, 2) != vote_identity(model, 3)
