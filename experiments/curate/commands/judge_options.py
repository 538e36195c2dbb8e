"""Who judges, on the command line: the rules, or the published rubric through an endpoint."""

import dataclasses
from typing import Literal

from experiments.common.chats.endpoint import Prices, endpoint_model
from experiments.common.chats.model import Limits
from experiments.curate.judging import rubric
from experiments.curate.judging.judges import Judging, rubric_judging, rules_judging
from experiments.curate.models import read_key
from gdpo_jax.errors import UserError

__all__ = ["JudgeOptions", "open_judge"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """Who judges."""

    by: Literal["rules", "rubric"] = "rules"
    """rules asks nobody; rubric asks a model, so give it --judge.url and --judge.model."""
    url: str = ""
    """An OpenAI-compatible endpoint."""
    model: str = ""
    """The name that the endpoint knows."""
    key_variable: str = ""
    """Environment variable with the endpoint's key; none is sent unless this is given."""
    timeout: float = 120.0
    """Seconds to the end of an answer."""
    retries: int = 4
    """Further requests where the endpoint refuses for the time being, or cuts an answer."""
    concurrency: int = 8
    """Requests under way at a time."""
    prices: tuple[float, float] | None = None
    """What a million prompt tokens and a million answer tokens cost."""
    max_new_tokens: int = rubric.LIMITS.max_new_tokens
    """Of a verdict, at most."""
    temperature: float = rubric.LIMITS.temperature
    """Of a verdict."""
    seed: int = 0
    """Of a verdict's draw."""


def open_judge(options: JudgeOptions) -> Judging:
    """The judge that the options name.

    Raises UserError for a rubric without an endpoint, options of an endpoint without a rubric, and
    a key variable that is not set.
    """
    if options.by == "rules":
        usual = JudgeOptions()
        for name, value in vars(options).items():
            if value != getattr(usual, name):
                raise UserError(
                    f"--judge.{name.replace('_', '-')} belongs to a model that judges; give "
                    "--judge.by rubric"
                )
        return rules_judging()
    for name in ("url", "model"):
        if not getattr(options, name):
            raise UserError(f"a rubric is asked of a model; give --judge.{name}")
    model = endpoint_model(
        options.url,
        model=options.model,
        api_key=read_key(options.key_variable, "judge.key-variable"),
        prices=None if options.prices is None else Prices(*options.prices),
        concurrency=options.concurrency,
        timeout=options.timeout,
        retries=options.retries,
    )
    limits = Limits(
        max_new_tokens=options.max_new_tokens, temperature=options.temperature, seed=options.seed
    )
    return rubric_judging(model, limits)
