"""A model that judges, on the command line: the endpoint, and how its verdicts are drawn."""

import dataclasses

from experiments.common.chats.endpoint import Prices, endpoint_model
from experiments.common.chats.model import Limits, Model
from gdpo_jax.errors import UserError
from gdpo_jax.serving.access import read_key

__all__ = ["JudgeEndpoint", "open_judge_model", "refuse_endpoint_options"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeEndpoint:
    """Which model judges, and how it is reached."""

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
    max_new_tokens: int = 120
    """Of a verdict, at most."""
    temperature: float = 0.0
    """Of a verdict."""
    seed: int = 0
    """Of a verdict's draw."""

    def limits(self) -> Limits:
        """Of a verdict."""
        return Limits(
            max_new_tokens=self.max_new_tokens, temperature=self.temperature, seed=self.seed
        )


def refuse_endpoint_options(options: JudgeEndpoint, usual: JudgeEndpoint) -> None:
    """Raises UserError where the options of a judge that asks nobody differ from the usual ones."""
    for name, value in vars(options).items():
        if value != getattr(usual, name):
            raise UserError(
                f"--judge.{name.replace('_', '-')} belongs to a model that judges; give "
                "--judge.by rubric"
            )


def open_judge_model(options: JudgeEndpoint) -> Model:
    """The model that the options name.

    Raises UserError for options without an endpoint, and a key variable that is not set.
    """
    for name in ("url", "model"):
        if not getattr(options, name):
            raise UserError(f"a rubric is asked of a model; give --judge.{name}")
    return endpoint_model(
        options.url,
        model=options.model,
        api_key=read_key(options.key_variable, "judge.key-variable"),
        prices=None if options.prices is None else Prices(*options.prices),
        concurrency=options.concurrency,
        timeout=options.timeout,
        retries=options.retries,
    )
