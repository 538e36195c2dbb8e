"""Reward functions as users of TRL write them."""

import asyncio
import re

import pytest

from gdpo_jax.rollouts import Completion, RewardError, score, trl_reward

TEXTS = ("<think>2+2</think>4", "5")
PLAIN = {"prompt": "2+2?", "answer": "4", "level": 1}
CHAT = {"prompt": [{"role": "user", "content": "2+2?"}], "answer": "4"}


def call(reward, record=PLAIN, records=None, texts=TEXTS):
    completions = [Completion(text, (3, 1), ((0, 1), (1, len(text))), True) for text in texts]
    records = [record] * len(texts) if records is None else records
    batch = score([reward], completions, records, num_prompts=1, num_samples=len(texts))
    return [
        value if valid else None
        for value, valid in zip(batch.values[0, :, 0].tolist(), batch.valid[0, :, 0].tolist())
    ]


def reward_len(completions, **kwargs):
    return [float(len(set(completion))) for completion in completions]


def correct(completions, answer, **kwargs):
    return [1.0 if each.endswith(right) else 0.0 for each, right in zip(completions, answer)]


def format_reward(completions, **kwargs):
    pattern = r"^<think>.*?</think>.*$"
    contents = [completion[0]["content"] for completion in completions]
    return [1.0 if re.match(pattern, content, re.DOTALL) else 0.0 for content in contents]


def test_functions_of_texts_and_columns():
    assert call(trl_reward(reward_len)) == [len(set(TEXTS[0])), 1.0]
    assert call(trl_reward(correct)) == [1.0, 0.0]
    assert trl_reward(correct).name == "correct"
    assert trl_reward(correct, name="right answer").name == "right answer"


def test_functions_of_messages():
    assert call(trl_reward(format_reward), CHAT) == [1.0, 0.0]


def test_every_argument_of_trl_is_given():
    seen = {}

    def everything(prompts, completions, completion_ids, trainer_state, **kwargs):
        seen.update(kwargs, prompts=prompts, completions=completions, ids=completion_ids)
        kwargs["log_extra"]("kept", completions)
        kwargs["log_metric"]("accuracy", 1.0)
        return [0.5, None]

    assert call(trl_reward(everything)) == [0.5, None]
    assert seen["prompts"] == ["2+2?", "2+2?"] and seen["completions"] == list(TEXTS)
    assert seen["ids"] == [[3, 1], [3, 1]]
    assert set(seen) - {"prompts", "completions", "ids"} == {
        "answer",
        "level",
        "log_extra",
        "log_metric",
    }


def test_a_function_without_kwargs_gets_what_it_names():
    def by_level(completions, level, scale=2.0):
        return [scale * each for each in level]

    assert call(trl_reward(by_level)) == [2.0, 2.0]


def test_an_async_function():
    async def judge(prompts, completions, **kwargs):
        await asyncio.sleep(0)
        return [float(len(each)) for each in prompts]

    assert call(trl_reward(judge)) == [4.0, 4.0]


def test_a_begun_answer_of_the_assistant_belongs_to_the_completion():
    record = {"prompt": [*CHAT["prompt"], {"role": "assistant", "content": "<think>"}]}
    seen = {}

    def look(prompts, completions, **kwargs):
        seen.update(prompts=prompts, completions=completions)
        return [0.0, 0.0]

    call(trl_reward(look), record)
    assert seen["prompts"] == [CHAT["prompt"]] * 2
    assert seen["completions"][1] == [{"role": "assistant", "content": "<think>5"}]
    assert len(record["prompt"]) == 2


def test_another_field_may_hold_the_prompt():
    def asked(prompts, completions, **kwargs):
        assert "question" not in kwargs
        return [float(len(each)) for each in prompts]

    assert call(trl_reward(asked, prompt="question"), {"question": "why?", "prompt": "p"}) == [4, 4]


def test_a_field_that_a_record_lacks_is_none():
    def given(completions, answer, **kwargs):
        return [None if each is None else 1.0 for each in answer]

    assert call(trl_reward(given), records=[PLAIN, {"prompt": "hm"}]) == [1.0, None]


def needs_truth(completions, ground_truth, **kwargs):
    return [0.0 for _ in completions]


def uses_step(completions, trainer_state, **kwargs):
    return [float(getattr(trainer_state, "global_step", 0)) for _ in completions]


@pytest.mark.parametrize(
    ("function", "record", "message"),
    [
        (needs_truth, PLAIN, r"needs 'ground_truth'.*fields are \['answer', 'level', 'prompt'\]"),
        (uses_step, PLAIN, r"'uses_step' raised .*trainer_state\.global_step is not known"),
        (correct, {"question": "?"}, r"sample 0 has no field 'prompt'; .*prompt=.*\['question'\]"),
        (correct, {"prompt": None}, "sample 0 has no field 'prompt'"),
        (correct, [1, 2], "that of sample 0 is a list"),
        (correct, PLAIN | {"completions": 1}, "is given the argument 'completions' by the trainer"),
    ],
)
def test_what_cannot_be_called_says_why(function, record, message):
    with pytest.raises(RewardError, match=message):
        call(trl_reward(function), record)


@pytest.mark.parametrize("name", ["", "a/b", 3])
def test_names_are_checked(name):
    with pytest.raises(RewardError, match="the name of the reward function"):
        trl_reward(correct, name=name)
    with pytest.raises(RewardError, match="a lambda has no name"):
        trl_reward(lambda completions, **kwargs: [0.0])
