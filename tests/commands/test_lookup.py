"""Rewards and estimators that a command line names."""

import pytest

from gdpo_jax.commands.lookup import estimator_of, load_reward
from gdpo_jax.errors import UserError


@pytest.fixture
def rewards_file(tmp_path):
    (tmp_path / "beside_rewards.py").write_text("UNIT = 0.5\n")
    path = tmp_path / "my_rewards.py"
    path.write_text(
        "from beside_rewards import UNIT\n"
        "def half(completions, records):\n    return [UNIT for _ in completions]\n"
        "class Kind:\n    name = 'kind'\n"
        "    def __call__(self, completions, records):\n        return [1.0 for _ in completions]\n"
        "kind = Kind()\n"
        "number = 3\n"
    )
    return path


def test_a_reward_is_named_by_file_and_function(rewards_file):
    reward = load_reward(f"{rewards_file}:half")
    assert reward.name == "half" and reward([None, None], [{}, {}]) == [0.5, 0.5]
    assert load_reward(f"{rewards_file}:kind").name == "kind"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rewards.py", "write FILE.py:FUNCTION"),
        (":half", "write FILE.py:FUNCTION"),
        ("none.py:half", "there is no file none.py"),
        ("no_such_module:half", "cannot import 'no_such_module'"),
        ("{file}:third", "has no 'third'"),
        ("{file}:Kind", "Kind is a class"),
        ("{file}:number", "no reward function"),
    ],
)
def test_what_is_no_reward_is_one_error(rewards_file, text, message):
    with pytest.raises(UserError, match=message):
        load_reward(text.format(file=rewards_file))


def test_a_file_that_raises_is_named(tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match=r"broken.py raised ZeroDivisionError"):
        load_reward(f"{tmp_path / 'broken.py'}:f")


def test_an_estimator_takes_the_weights_that_are_named():
    transform = estimator_of("gdpo", ["brief=0.25"], ["correct", "brief"])
    state = transform.init(("correct", "brief"))
    assert "0.25" in str(state) and "1." in str(state)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("gdqo", [], "'gdqo' is unknown; legal: gdpo"),
        ("papo", [], "needs outcome, process"),
        ("gdpo", ["other=1"], "'other=1': write NAME=NUMBER"),
        ("gdpo", ["brief=much"], "'brief=much': write NAME=NUMBER"),
        ("gdpo", ["brief=inf"], "write NAME=NUMBER"),
    ],
)
def test_other_words_are_one_error(name, weights, message):
    with pytest.raises(UserError, match=message):
        estimator_of(name, weights, ["correct", "brief"])
