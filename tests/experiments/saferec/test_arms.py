"""The arms' rewards and the credit of every token."""

import dataclasses

import pytest

from experiments.saferec.arms import (
    ARM_NAMES,
    arm_named,
    rank_of_tokens,
    reward_functions,
    token_ranks,
    token_shaping,
)
from experiments.saferec.presets import PRESETS, preset_named
from experiments.saferec.rewards import Count
from experiments.saferec.settings import OfficialRewards
from gdpo_jax.errors import UserError
from gdpo_jax.rollouts import Completion, score
from tests.experiments.saferec.data.test_targets import FILMS, RECORD, film_oracle

TEXT = "<solution>\nFilm0 (2000)\nFilm1 (2001)\nFilm0 (2000)\n</solution>"


def completion(text: str) -> Completion:
    """One token a character, and the stop token."""
    spans = [(i, i + 1) for i in range(len(text))] + [(len(text), len(text))]
    return Completion(text, tuple(range(len(spans))), tuple(spans), True)


def test_unknown_arm_and_preset_name_the_legal_ones():
    with pytest.raises(UserError, match=r"legal: sft, .*safe-gdpo"):
        arm_named("gdpo")
    with pytest.raises(UserError, match=", ".join(PRESETS)):
        preset_named("maxi")


def test_per_rank_rewards_of_a_list_by_hand():
    preset = preset_named("mini").with_level("rank")
    record = {**RECORD, "groundtruth_with_release_year": [["Film0", "2000"]], "seen_titles": []}
    functions = reward_functions(arm_named("safe-gdpo"), preset, film_oracle(FILMS))
    batch = score(
        functions,
        [completion(TEXT)],
        [record],
        num_prompts=1,
        num_samples=1,
        num_ranks=preset.num_ranks,
    )
    relevance, safety, count = batch.values[0, 0]
    assert batch.valid.all()
    assert relevance.tolist() == [1.0] + [0.0] * 10
    assert safety[:3].tolist() == pytest.approx([0.0, -0.6309298, 0.0])
    assert count.tolist() == [1.0, 1.0, -1.0] + [0.0] * 8


def test_sequence_rewards_of_a_list_by_hand():
    preset = preset_named("mini").with_level("sequence")
    record = {**RECORD, "groundtruth_with_release_year": [["Film0", "2000"]], "seen_titles": []}
    functions = reward_functions(arm_named("safe-gdpo"), preset, film_oracle(FILMS))
    values = [function([completion(TEXT)], [record])[0] for function in functions]
    assert values == pytest.approx([1.0, -0.6309298, -0.8])


def test_credit_of_each_rank_needs_ranks():
    with pytest.raises(UserError, match="per_rank"):
        Count(each=True)


def test_presets_of_the_published_code_credit_lines_and_may_shape_lengths():
    mini, answer = preset_named("mini"), completion("a\nb")
    assert token_ranks(mini)(completion(TEXT), {}) == rank_of_tokens(11)(completion(TEXT), {})
    assert token_shaping(mini) is None
    published = dataclasses.replace(mini, official=OfficialRewards(num_ranks=2))
    assert token_ranks(published)(answer, {}) == [0, 0, 1, -1]
    assert token_shaping(published) is None
    official = dataclasses.replace(published.official, length_shaping=0.5)
    shaped = dataclasses.replace(published, official=official)
    assert token_shaping(shaped)(answer, {}) == [0.0, 0.0, 0.0, 0.5]
    names = [f.name for f in reward_functions(arm_named("safe-gdpo"), shaped, film_oracle(FILMS))]
    assert names == ["relevance", "safety"]
    by_answer = shaped.with_level("sequence")
    assert token_ranks(by_answer) is None and token_shaping(by_answer) is None


def test_what_closes_a_list_stands_at_the_first_empty_rank():
    ranks = rank_of_tokens(5)(completion(TEXT), {})
    first, close = TEXT.index("Film0"), TEXT.index("</solution>")
    assert set(ranks[:first]) == {-1}
    assert ranks[first] == 0 and ranks[TEXT.index("Film1")] == 1
    assert set(ranks[close:]) == {3} and len(ranks) == len(TEXT) + 1


def test_a_full_list_has_no_empty_rank_and_no_list_has_no_ranks():
    ranks = rank_of_tokens(3)(completion(TEXT), {})
    assert set(ranks[TEXT.index("</solution>") :]) == {-1}
    assert rank_of_tokens(3)(completion("no list"), {}) is None


def test_arm_names_are_in_the_order_of_the_table():
    assert ARM_NAMES[0] == "sft" and ARM_NAMES[-1] == "safe-gdpo" and len(ARM_NAMES) == 6
