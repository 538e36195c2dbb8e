"""What the papers claim and the embedded comparison can test (arXiv 2506.00430, 2601.05242).

`value(arm, metric)` is the mean of a metric over the test dialogues.
"""

from experiments.common.scores.claims import Claim, Value

__all__ = ["CLAIMS"]


def _mirror(value: Value) -> tuple[bool, str]:
    after, before = value("mirror", "pass"), value("base", "pass")
    return after > before, f"pass rate {after:.3f} with it, {before:.3f} without"


def _decoupled(value: Value) -> tuple[bool, str]:
    rates = value("gdpo", "pass"), value("grpo", "pass")
    warnings = value("gdpo", "warns"), value("grpo", "warns")
    numbers = "pass rate {:.3f} against {:.3f}, ".format(*rates)
    numbers += "warnings on controls {:.3f} against {:.3f}".format(*warnings)
    return rates[0] >= rates[1] and warnings[0] <= warnings[1], numbers


def _learnt(value: Value) -> tuple[bool, str]:
    rates = value("gdpo", "pass"), value("base", "pass")
    warnings = value("gdpo", "warns"), value("guided", "warns")
    numbers = "pass rate {:.3f} against the base's {:.3f}, ".format(*rates)
    numbers += "warnings on controls {:.3f} against the guiding prompt's {:.3f}".format(*warnings)
    return rates[0] > rates[1] and warnings[0] <= warnings[1], numbers


CLAIMS = (
    Claim("MIRROR raises the base's pass rate", _mirror),
    Claim("GDPO passes no less than GRPO and warns no more on controls", _decoupled),
    Claim("GDPO passes more than the base and warns no more than the guiding prompt", _learnt),
)
