"""What several sections use: the templates' folder, means over seeds, intervals in words."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

__all__ = ["TEMPLATES", "interval", "mean"]

TEMPLATES = Path(__file__).parent / "templates"


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the numbers that there are; None without any."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def interval(found: Sequence[Mapping[str, float | None] | None], digits: int) -> str:
    """The mean over seeds and the interval of the first one, in words; "-" without any."""
    known = [one for one in found if one is not None and one["mean"] is not None]
    if not known:
        return "-"
    text = f"{mean(one['mean'] for one in known):.{digits}f}"
    low, high = known[0]["low"], known[0]["high"]
    return text if low is None else f"{text} ({low:.{digits}f} to {high:.{digits}f})"
