"""Reward functions of any kind get a name, or one error that says how to give them one."""

import functools

import jax
import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.rollouts import Completion, RewardFunction, named_reward, score


def brevity(completions, records):
    return [-float(len(each.text)) for each in completions]


async def later(completions, records):
    return [0.0 for _ in completions]


class Judge:
    def score_all(self, completions, records):
        return [1.0 for _ in completions]

    __call__ = score_all


class Named(Judge):
    name = "judge"


def labelled(name):
    judge = Judge()
    judge.name = name
    return judge


def scaled(completions, records, *, factor):
    return [factor for _ in completions]


def test_functions_are_called_by_their_name():
    assert named_reward(brevity).name == "brevity"
    assert named_reward(later).name == "later"
    assert named_reward(Judge().score_all).name == "score_all"
    assert named_reward(functools.partial(scaled, factor=2.0)).name == "scaled"
    assert named_reward(functools.partial(Named())).name == "judge"
    assert named_reward(Named().__call__).name == "score_all"
    assert named_reward(jax.jit(brevity)).name == "brevity"


def test_an_object_with_a_name_is_returned_as_it_is():
    for reward in (Named(), named_reward(brevity)):
        assert named_reward(reward) is reward
        assert isinstance(reward, RewardFunction)


def test_a_name_that_is_set_counts():
    half = functools.partial(scaled, factor=0.5)
    half.name = "half"
    tiny = lambda completions, records: [0.1 for _ in completions]  # noqa: E731
    tiny.name = "tiny"
    answers = [Completion("a", (0,), ((0, 1),), True), Completion("bcd", (0,), ((0, 3),), True)]
    batch = score([half, tiny, brevity], answers, [{}, {}], num_prompts=1, num_samples=2)
    assert batch.names == ("half", "tiny", "brevity")
    assert batch.values.tolist() == [[[0.5, pytest.approx(0.1), -1], [0.5, pytest.approx(0.1), -3]]]


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda c, r: [], "a lambda has no name .* write it with def"),
        (functools.partial(lambda c, r: []), "a lambda has no name"),
        (Judge(), "has no name; .*set its `name` attribute"),
        (Named, "Named is a class, no reward function; give an instance of it"),
        ("brevity", "'brevity' is no reward function: it cannot be called"),
        (None, "cannot be called"),
        (labelled(7), "is no text but 7"),
        (labelled(""), "is empty"),
        (labelled(" \t"), "is empty"),
        (labelled("safety/judge"), '"/" separates'),
        (labelled("a\nb"), "a line end"),
        (labelled("a\rb"), "a line end"),
        (labelled("a\u2028b"), "a line end"),
        (labelled("a\0b"), "cannot be printed"),
        (labelled("\ud800"), "cannot be printed"),
        (labelled(" a"), "begins or ends with a space"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_has_no_usable_name_is_refused(reward, message):
    with pytest.raises(UserError, match=message):
        named_reward(reward)


def test_two_of_one_name_say_how_to_rename_one():
    with pytest.raises(UserError, match=r"must differ, got \['brevity', 'brevity'\]; to rename"):
        score([brevity, brevity], [], [], num_prompts=0, num_samples=0)
