"""Linguistic fingerprints: whether a text was written by whoever wrote a few others."""
