"""One self-contained page about finished runs."""

from experiments.saferec.page.page import collect_arms, write_report

__all__ = ["collect_arms", "write_report"]
