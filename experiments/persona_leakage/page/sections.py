"""What the page of persona leakage has besides the sections that all experiments share."""

from collections.abc import Mapping

from experiments.common.report.comparisons import differences
from experiments.common.report.report import LAST
from experiments.common.report.runs import Section
from experiments.persona_leakage.page.detection import detection
from experiments.persona_leakage.page.extraction import extraction
from experiments.persona_leakage.page.leaks import leaks
from experiments.persona_leakage.page.matrix import who_to_whom
from experiments.persona_leakage.page.safeguards import safeguards

__all__ = ["SECTIONS"]

SECTIONS: Mapping[str, Section] = {
    "Safeguards": safeguards,
    "Who leaks to whom": who_to_whom,
    "Extraction": extraction,
    "Detection": detection,
    "Differences": differences,
    **LAST,
    "Leaks": leaks,
}
