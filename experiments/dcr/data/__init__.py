"""Prompts that are plain, that only look toxic, and that are toxic: published sets and our own."""
