"""What the page of persona leakage has besides the sections that all experiments share."""

from collections.abc import Callable, Mapping
from typing import Any

from experiments.common.report.comparisons import differences
from experiments.common.report.report import LAST
from experiments.common.report.runs import Run, Section
from experiments.persona_leakage.page.costs import COSTS_FILE, costs_of
from experiments.persona_leakage.page.detection import detection
from experiments.persona_leakage.page.extraction import extraction
from experiments.persona_leakage.page.isolation import isolation
from experiments.persona_leakage.page.leaks import leaks
from experiments.persona_leakage.page.matrix import who_to_whom
from experiments.persona_leakage.page.safeguards import safeguards

__all__ = ["FILES", "SECTIONS"]

SECTIONS: Mapping[str, Section] = {
    "Safeguards": safeguards,
    "Who leaks to whom": who_to_whom,
    "Extraction": extraction,
    "Detection": detection,
    "Selective isolation": isolation,
    "Differences": differences,
    **LAST,
    "Leaks": leaks,
}
FILES: Mapping[str, Callable[[Run], Any]] = {COSTS_FILE: costs_of}
