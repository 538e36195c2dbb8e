"""Persona leakage's own sections of the page about its runs."""

from experiments.persona_leakage.page.sections import SECTIONS

__all__ = ["SECTIONS"]
