"""CURaTe's own sections of the page about its runs."""

from experiments.curate.page.sections import SECTIONS

__all__ = ["SECTIONS"]
