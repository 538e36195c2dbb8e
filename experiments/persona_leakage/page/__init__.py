"""Persona leakage's own sections of the page about its runs, and what stands beside the page."""

from experiments.persona_leakage.page.sections import FILES, SECTIONS

__all__ = ["FILES", "SECTIONS"]
