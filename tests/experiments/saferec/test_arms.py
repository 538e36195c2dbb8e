"""The arms' rewards and the credit of every token."""

import dataclasses
import types

import pytest

from experiments.common.runs.arms import Arm
from experiments.common.runs.experiment import Data
from experiments.common.runs.stages import Optimize
from experiments.saferec.__main__ import EXPERIMENT, commands, main
from experiments.saferec.arms import (
    ARMS,
    rank_of_tokens,
    reward_functions,
    rewards,
    token_ranks,
    token_shaping,
)
from experiments.saferec.presets import PRESETS
from experiments.saferec.rewards import Count
from experiments.saferec.settings import OfficialRewards
from gdpo_jax.errors import UserError
from gdpo_jax.rollouts import Completion, score
from tests.experiments.saferec.data.test_targets import FILMS, RECORD, film_oracle

TEXT = "<solution>\nFilm0 (2000)\nFilm1 (2001)\nFilm0 (2000)\n</solution>"


ALL = ("relevance", "safety", "count")


def completion(text: str) -> Completion:
    """One token a character, and the stop token."""
    spans = [(i, i + 1) for i in range(len(text))] + [(len(text), len(text))]
    return Completion(text, tuple(range(len(spans))), tuple(spans), True)


def test_an_unknown_arm_names_the_legal_ones():
    with pytest.raises(UserError, match=r"legal: sft, .*safe-gdpo"):
        EXPERIMENT.arm("gdpo")


def test_per_rank_rewards_of_a_list_by_hand():
    preset = PRESETS["mini"].with_level("rank")
    record = {**RECORD, "groundtruth_with_release_year": [["Film0", "2000"]], "seen_titles": []}
    functions = reward_functions(ALL, preset, film_oracle(FILMS))
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
    # Two films that are useful and one that is a repetition: their sums from each rank on.
    assert count.tolist() == [1.0, 0.0, -1.0] + [0.0] * 8


def test_sequence_rewards_of_a_list_by_hand():
    preset = PRESETS["mini"].with_level("sequence")
    record = {**RECORD, "groundtruth_with_release_year": [["Film0", "2000"]], "seen_titles": []}
    functions = reward_functions(ALL, preset, film_oracle(FILMS))
    values = [function([completion(TEXT)], [record])[0] for function in functions]
    assert values == pytest.approx([1.0, -0.6309298, -0.8])


def test_credit_of_each_rank_needs_ranks():
    with pytest.raises(UserError, match="per_rank"):
        Count(each=True)


def test_presets_of_the_published_code_credit_lines_and_may_shape_lengths():
    mini, answer = PRESETS["mini"], completion("a\nb")
    assert token_ranks(mini)(completion(TEXT), {}) == rank_of_tokens(11)(completion(TEXT), {})
    assert token_shaping(mini) is None
    published = dataclasses.replace(mini, official=OfficialRewards(num_ranks=2))
    assert token_ranks(published)(answer, {}) == [0, 0, 1, -1]
    assert token_shaping(published) is None
    official = dataclasses.replace(published.official, length_shaping=0.5)
    shaped = dataclasses.replace(published, official=official)
    assert token_shaping(shaped)(answer, {}) == [0.0, 0.0, 0.0, 0.5]
    names = [f.name for f in reward_functions(ALL, shaped, film_oracle(FILMS))]
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


def test_arms_are_in_the_order_of_the_table():
    names = [arm.name for arm in EXPERIMENT.compared]
    assert names[0] == "sft" and names[-1] == "safe-gdpo" and len(names) == 6


def test_a_seventh_arm_is_one_record(capsys):
    """Another estimator and other weights: its rewards, its column and its commands follow."""
    stage = Optimize(rewards=("safety", "relevance"), estimator="rloo", weights={"safety": 4.0})
    seventh = Arm(name="safe-rloo", title="Safe-RLOO", start="safe-sft", stage=stage)
    seven = dataclasses.replace(EXPERIMENT, arms=(*ARMS, seventh))
    data = Data(records={}, source=types.SimpleNamespace(oracle=film_oracle(FILMS), titles=None))
    preset = PRESETS["mini"]
    found = rewards(seventh, data, preset)
    assert [function.name for function in found.functions] == ["safety", "relevance"]
    names = tuple(function.name for function in found.functions)
    stage.transform(preset, found).init(names)
    for command in ("rl", "answer", "reproduce"):
        with pytest.raises(SystemExit):
            main([command, "--help"], seven)
        assert "safe-rloo" in capsys.readouterr().out
    assert set(commands(seven)) == set(commands(EXPERIMENT))


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_every_preset_has_the_settings_of_every_arm(preset):
    published = preset.pretrained is not None
    for arm in ARMS:
        if not (published and arm.base):
            assert arm.stage.steps(preset) > 0
        assert arm.stage.examples in EXPERIMENT.examples


@pytest.mark.parametrize("whole", [False, True])
def test_a_title_with_its_year_is_one_token_where_the_preset_says_so(data_dir, whole):
    preset = dataclasses.replace(PRESETS["mini"], whole_titles=whole)
    data = EXPERIMENT.open_data(data_dir, preset, False)
    made = EXPERIMENT.tokenizer(data, preset)
    titles = [f"{item.title} ({item.year})" for item in data.source.items]
    lengths = [len(ids) for ids in made.encode_batch(titles)]
    assert (set(lengths) == {1}) == whole
    answer = f"<solution>\n{titles[0]}\n{titles[1]}\n</solution>"
    assert made.decode(made.encode(answer)) == answer
    if whole:
        ids = made.encode(answer)
        written = Completion(answer, tuple(ids), tuple(made.token_spans(ids)), True)
        # What opens the list, a title, its line end, a title, its line end, what closes it.
        assert rank_of_tokens(3)(written, {}) == [-1, -1, 0, 0, 1, 1, 2]
