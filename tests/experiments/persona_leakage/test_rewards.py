"""The three rewards, by hand."""

from types import SimpleNamespace

from experiments.persona_leakage.data.users import Mark, Style, User
from experiments.persona_leakage.rewards import REWARDS, reward_functions
from gdpo_jax.rollouts import named_reward


def user(name, *marks):
    found = tuple(Mark(kind="pet name", text=text) for text in marks)
    return User(id=name, split="enrolled", half="a", style=Style(), marks=found)


USERS = (user("u", "red fox"), user("v", "blue owl", "by the sea"))
RECORDS = [
    {"user": "u", "wanted": "Red fox, boil it."},
    {"user": "u", "wanted": "Red fox, boil it."},
    {"user": "", "wanted": "Boil it."},
    {"user": "", "wanted": "Boil it."},
]
TEXTS = ["Red fox, boil it.", "Blue owl, boil it. Red fox.", "Boil it.", "Boil it. By the sea!"]
COMPLETIONS = [SimpleNamespace(text=text) for text in TEXTS]


def test_rewards():
    values = {
        named_reward(function).name: function(COMPLETIONS, RECORDS)
        for function in reward_functions(tuple(REWARDS), USERS)
    }
    assert values["keeps_apart"] == [0.0, -1.0, 0.0, -1.0]
    assert values["personal"] == [1.0, 1.0, None, None]
    # 4 words of 4 and 6; 2 words of 2 and 5.
    assert values["relevant"] == [1.0, 2 * 4 / 10, 1.0, 2 * 2 / 7]
