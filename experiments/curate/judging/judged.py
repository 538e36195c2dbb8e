"""What is judged: a case and the last answer of its dialogue; and the labels."""

import dataclasses

from experiments.curate.data.cases import Case

__all__ = ["FAIL", "LABELS", "PASS", "UNCLEAR", "Judged"]

# CURaTe (arXiv 2410.21159), section 3.
FAIL, UNCLEAR, PASS = LABELS = (0, 1, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """A case with the answer to its last turn: all that a judge may see are its constraint, its
    last turn and this answer."""

    case: Case
    answer: str

    @property
    def question(self) -> str:
        """The user's last turn."""
        return self.case.turns[-1]
