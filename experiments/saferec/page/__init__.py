"""SafeRec's own sections of the page about its runs."""

from experiments.saferec.page.sections import SECTIONS

__all__ = ["SECTIONS"]
