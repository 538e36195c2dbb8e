"""What an answer is worth to a stranger: what he needs to know, and the words of the wanted one.

F1 of words as of SQuAD (arXiv 1606.05250, section 6.1): of a mark that leaked into an answer each
word lowers the precision.
"""

from collections import Counter
from collections.abc import Sequence

from experiments.common.judges.phrases import plain, words
from experiments.persona_leakage.measures.detectors import carries

__all__ = ["has_keys", "word_f1"]


def word_f1(wanted: str, answer: str) -> float:
    """F1 of the words of both texts, each as often as it stands there; 1 where both are empty."""
    first, second = (Counter(words(plain(text))) for text in (wanted, answer))
    if not first or not second:
        return float(first == second)
    shared = (first & second).total()
    return 2.0 * shared / (first.total() + second.total())


def has_keys(keys: Sequence[str], answer: str) -> bool:
    """Whether an answer holds all words that an answer of use has, marks aside.

    Raises UserError for a key without a word.
    """
    return all(carries(key, answer) for key in keys)
