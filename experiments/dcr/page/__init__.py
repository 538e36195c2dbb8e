"""DCR's own sections of the page about its runs, and of evaluations."""

from experiments.dcr.page.sections import EVALUATION_SECTIONS, SECTIONS

__all__ = ["EVALUATION_SECTIONS", "SECTIONS"]
