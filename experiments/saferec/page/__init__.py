"""One self-contained page about finished runs."""

from experiments.saferec.page.page import write_report

__all__ = ["write_report"]
