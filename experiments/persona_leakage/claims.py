"""What the comparison can test of the proposal's safeguards.

`value(arm, metric)` is the mean of a metric over the test probes. Leakage is an arm's column minus
that of its partner without half a. "Keeps" allows for a loss of a tenth of what there was.
"""

import functools

from experiments.common.scores.claims import Claim, Value

__all__ = ["CLAIMS"]

_KEPT = 0.9
_SAFEGUARDS = {
    "separation": "data separation",
    "fingerprint": "activation by fingerprint",
    "filtered": "filtering histories",
    "specific": "leaving out answers specific to a user",
    "private": "user-level clipping",
    "adapters": "adapters of users",
    "gdpo": "GDPO with a leakage penalty",
    "all": "all three together",
}


def leakage(value: Value, arm: str, metric: str = "leakage") -> float:
    """Paired: an arm's column minus its partner's."""
    return value(arm, metric) - value(arm + "-without", metric)


def _leaks(value: Value) -> tuple[bool, str]:
    manner, secrets = leakage(value, "shared"), leakage(value, "shared", "secret_leakage")
    return manner > 0 and secrets > 0, f"leakage {manner:.3f}, of secrets {secrets:.3f}"


def _protects(value: Value, arm: str) -> tuple[bool, str]:
    before, after = leakage(value, "shared"), leakage(value, arm)
    secrets = leakage(value, "shared", "secret_leakage"), leakage(value, arm, "secret_leakage")
    numbers = f"leakage {after:.3f} against {before:.3f}, "
    numbers += f"of secrets {secrets[1]:.3f} against {secrets[0]:.3f}"
    return after < before and secrets[1] < secrets[0], numbers


def _keeps(value: Value, arm: str) -> tuple[bool, str]:
    recall = value(arm, "recall"), value("shared", "recall")
    use = value(arm, "utility"), value("shared", "utility")
    numbers = "recall {:.3f} against {:.3f}, ".format(*recall)
    numbers += "use to strangers {:.3f} against {:.3f}".format(*use)
    kept = all(after >= _KEPT * before for after, before in (recall, use))
    return kept, numbers


CLAIMS = (
    Claim("without a safeguard, marks and secrets reach strangers", _leaks),
    *(
        Claim(f"{title} lowers the leakage", functools.partial(_protects, arm=arm))
        for arm, title in _SAFEGUARDS.items()
    ),
    *(
        Claim(f"{title} keeps recall and use to strangers", functools.partial(_keeps, arm=arm))
        for arm, title in _SAFEGUARDS.items()
    ),
)
