"""How well scores tell two kinds of items apart, whatever the threshold."""

import numpy as np
from jaxtyping import Bool, Float


def area_under_curve(scores: Float[np.ndarray, "N"], positive: Bool[np.ndarray, "N"]) -> float:
    """The area under the receiver operating characteristic: the chance that a positive item has a
    higher score than a negative one, ties counting half (H. B. Mann and D. R. Whitney, 1947).

    0.5 is chance; NaN without items of either kind.
    """
    ones = int(positive.sum())
    zeros = positive.size - ones
    if not ones or not zeros:
        return float("nan")
    from scipy.stats import rankdata  # here, for it is a quarter of what a command imports

    ranks = rankdata(scores)  # equal scores share their mean rank
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))
