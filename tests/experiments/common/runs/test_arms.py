"""Arms by their records: what fits together, and how one answers."""

import pytest

from experiments.common.runs.arms import Arm, Guided, Plain, arm_named, check_arms, way_to
from experiments.common.runs.settings import Imitation, Optimization, Preset
from experiments.common.runs.stages import Imitate, NoTraining, Optimize, Rewards
from gdpo_jax.advantages import ESTIMATORS, gdpo
from gdpo_jax.errors import UserError
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.training import OptimizerConfig, PolicyOptimizationConfig
from tests.experiments.common.runs.study import DECODER

RL = Optimization(
    run=PolicyOptimizationConfig(steps=7), optimizer=OptimizerConfig(), objective=ObjectiveConfig()
)
PRESET = Preset(name="p", decoder=DECODER, stages={"rl": RL}, weights={"brief": 2.0, "right": 3.0})


def arm(name, start=None, **options):
    return Arm(name=name, title=name, stage=NoTraining(), start=start, **options)


def brief(completions, records):
    return [1.0 for _ in completions]


def test_an_unknown_estimator_and_missing_options_are_errors():
    with pytest.raises(UserError, match=r"unknown estimator 'gpdo'; legal: gdpo, grpo"):
        Optimize(rewards=("brief",), estimator="gpdo")
    with pytest.raises(UserError, match=r"'constrained_grpo' needs options=\{'thresholds': \.\.\."):
        Optimize(rewards=("brief",), estimator="constrained_grpo")
    with pytest.raises(UserError, match="has no option 'tau'"):
        Optimize(rewards=("brief",), estimator="rloo", options={"tau": 1.0})
    with pytest.raises(UserError, match="a weight of 'right'"):
        Optimize(rewards=("brief",), estimator="rloo", weights={"right": 1.0})


NEEDED = {
    "papo": {"outcome": "brief", "process": "brief"},
    "sa_mrpo": {"bounds": {"brief": (0.0, 1.0)}},
    "constrained_grpo": {"thresholds": {"brief": 0.0}, "step_size": 0.1},
    "corpo": {"threshold": 0.5},
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_is_itself(name, monkeypatch):
    given = {}
    stage = Optimize(rewards=("brief",), estimator=name, options=NEEDED.get(name, {}))
    monkeypatch.setitem(ESTIMATORS, name, lambda **options: given.update(options) or gdpo())
    stage.transform(PRESET, Rewards([brief]))
    assert given == {"weights": {"brief": 2.0}, **NEEDED.get(name, {})}


def test_weights_of_the_arm_stand_before_those_of_the_preset_and_others_are_one(monkeypatch):
    given = {}
    stage = Optimize(rewards=("brief", "loud"), estimator="gdpo", weights={"brief": 5.0})
    monkeypatch.setitem(ESTIMATORS, "gdpo", lambda **options: given.update(options) or gdpo())

    def loud(completions, records):
        return [0.0 for _ in completions]

    stage.transform(PRESET, Rewards([brief, loud], estimator={"convention": "trl"}))
    assert given == {"weights": {"brief": 5.0, "loud": 1.0}, "convention": "trl"}


def test_stages_read_their_settings_by_name_and_kind():
    assert NoTraining().steps(PRESET) == 0
    assert Optimize(rewards=("brief",), estimator="gdpo").steps(PRESET) == 7
    with pytest.raises(UserError, match="no Imitation settings 'rl'; legal: none"):
        Imitate(settings="rl", examples="words").steps(PRESET)
    with pytest.raises(UserError, match="no Optimization settings 'other'; legal: rl"):
        PRESET.stage("other", Optimization)
    assert Imitation not in map(type, PRESET.stages.values())


def test_arms_fit_together():
    check_arms([arm("a"), arm("b", "a")])
    with pytest.raises(UserError, match="two arms are called 'a'"):
        check_arms([arm("a"), arm("a")])
    with pytest.raises(UserError, match="'b' starts from 'c', which is no arm before it"):
        check_arms([arm("b", "c"), arm("c")])
    with pytest.raises(UserError, match=r"unknown arm 'z'; legal: a, b$"):
        arm_named([arm("base", base=True), arm("a"), arm("b")], "z")


def test_a_published_model_takes_the_place_of_base_stages_alone():
    arms = [arm("base", base=True), arm("a", "base"), arm("b", "a")]
    assert [step.name for step in way_to(arms, arms[2], published=False)] == ["base", "a", "b"]
    assert [step.name for step in way_to(arms, arms[2], published=True)] == ["a", "b"]


def test_ways_to_answer():
    asked = []

    def reply(prompts):
        asked.extend(prompts)
        return ["yes" for _ in prompts]

    chat = [{"role": "user", "content": "and?"}]
    records = [{"prompt": "so?"}, {"prompt": chat}]
    assert Plain().answer(reply, records) == ["yes", "yes"]
    assert asked == ["so?", chat]
    asked.clear()
    Guided("Be kind.").answer(reply, records)
    assert asked == ["Be kind.\nso?", [{"role": "system", "content": "Be kind."}, *chat]]


def test_two_arms_that_differ_in_kind_alone_are_described_apart():
    plain, guided = arm("a"), arm("a", answer=Guided(""))
    assert plain.describe() != guided.describe()
    assert plain.describe()["kinds"] == {"stage": "NoTraining", "answer": "Plain"}
