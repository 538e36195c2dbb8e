"""Dialogues held by the model of an arm."""

import pytest

from experiments.common.runs.arms import Arm
from experiments.curate.arms import ARMS
from experiments.curate.data.examples import conversation, example_record
from experiments.curate.data.generated import generate_examples
from experiments.curate.dialogue_arms import Held, LastAnswers, own_turns, reply_model
from experiments.curate.ways import Facts
from gdpo_jax.errors import UserError

EXAMPLES = generate_examples("validation", 3)
RECORDS = [{**example_record(e), "prompt": conversation(e)} for e in EXAMPLES]


class Echo:
    """Answers with the number of messages it was shown, and keeps them."""

    def __init__(self):
        self.shown = []

    def __call__(self, prompts):
        self.shown += prompts
        return [f"answer to {len(prompt)}" for prompt in prompts]


def test_last_answers_come_behind_earlier_ones_of_the_model_itself():
    reply = Echo()
    texts = Held().answer(reply, RECORDS)
    assert texts == [f"answer to {2 * len(e.case.turns) - 1}" for e in EXAMPLES]
    last = next(p for p in reply.shown if len(p) == 2 * len(EXAMPLES[0].case.turns) - 1)
    assert last[1] == {"role": "assistant", "content": "answer to 1"}


def test_a_way_stands_around_the_model():
    reply = Echo()
    Held(Facts()).answer(reply, RECORDS)
    assert any(prompt[0]["role"] == "system" for prompt in reply.shown)


def test_a_dialogue_without_a_last_answer_says_nothing():
    silent = Held().answer(lambda prompts: [""] * len(prompts), RECORDS)
    assert silent == [""] * len(RECORDS)


def test_prompts_of_own_turns_hold_the_answers_of_the_start_or_those_given():
    own = own_turns(RECORDS, Echo())
    for record, example in zip(own, EXAMPLES):
        roles = [message["role"] for message in record["prompt"]]
        assert roles == [message["role"] for message in conversation(example)]
        said = [m["content"] for m in record["prompt"] if m["role"] == "assistant"]
        assert said == [f"answer to {2 * n + 1}" for n in range(len(said))]
        assert record["prompt"][-1]["content"] == example.case.turns[-1]
    silent = own_turns(RECORDS, lambda prompts: [""] * len(prompts))
    assert [record["prompt"] for record in silent] == [conversation(e) for e in EXAMPLES]


def test_last_answers_are_a_stage_of_an_arm():
    arm = Arm(
        name="own",
        title="own turns",
        start="language",
        stage=LastAnswers(rewards=("heeds",), estimator="gdpo"),
    )
    assert arm.describe()["kinds"]["stage"] == "LastAnswers"
    with pytest.raises(UserError, match="unknown estimator"):
        LastAnswers(rewards=("heeds",), estimator="best")


def test_a_reply_tells_each_answer_as_it_comes():
    told = {}
    model = reply_model(Echo())
    [answer] = model.answer([[{"role": "user", "content": "a"}]], None, on_answer=told.__setitem__)
    assert told == {0: answer} and answer.text == "answer to 1"


def test_every_arm_holds_its_dialogues():
    assert all(isinstance(arm.answer, Held) for arm in ARMS if not arm.base)
