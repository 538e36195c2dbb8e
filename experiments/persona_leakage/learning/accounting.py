"""What user-level clipping with noise guarantees, by Google's dp-accounting (extra `privacy`).

A step is a Gaussian mechanism on a Poisson sample of the users (arXiv 1607.00133): whoever sees all
checkpoints of so many steps can hardly tell whether any one user was among the data. The guarantee
is that of adding or removing one user with all of his rows. Distributions of the privacy loss (PLD,
arXiv 1905.11816 and 2106.08567) give epsilon, rounded up.
"""

import dataclasses
import importlib
import math
from types import ModuleType

from gdpo_jax.errors import UserError

__all__ = ["Guarantee", "guarantee"]


@dataclasses.dataclass(frozen=True)
class Guarantee:
    """(epsilon, delta)-differential privacy of one user's rows."""

    epsilon: float
    delta: float

    def __str__(self) -> str:
        return f"epsilon {self.epsilon:.2f} at delta {self.delta:g}, for each user"


def guarantee(*, noise: float, rate: float, steps: int, delta: float) -> Guarantee | None:
    """What `steps` steps guarantee, or None without noise, which guarantees nothing.

    noise: standard deviation of the noise over the clipping norm (s). rate: the chance of a user to
    be in a step. delta: below one over the number of users, or it is no promise to anybody.

    It assumes that nobody sees the random seed, who was in a step, or the metrics of training.

    Raises UserError for numbers out of their range, and without dp-accounting.
    """
    if not (noise >= 0 and math.isfinite(noise)):
        raise UserError(f"noise must be finite and not negative, got {noise}")
    if not 0 < rate <= 1:
        raise UserError(f"rate must be above 0 and at most 1, got {rate}")
    if steps < 1:
        raise UserError(f"steps must be at least 1, got {steps}")
    if not 0 < delta < 1:
        raise UserError(f"delta must be between 0 and 1, got {delta}")
    if noise == 0:
        return None
    accounting, pld = _package("dp_accounting"), _package("dp_accounting.pld")
    step = accounting.PoissonSampledDpEvent(rate, accounting.GaussianDpEvent(noise))
    accountant = pld.PLDAccountant()
    accountant.compose(accounting.SelfComposedDpEvent(step, steps))
    return Guarantee(float(accountant.get_epsilon(delta)), delta)


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != "dp_accounting":
            raise
        raise UserError(
            "an epsilon needs dp-accounting; pip install 'gdpo-jax[privacy]'"
        ) from error
