"""Texts of our own: matched triples, an inventory to combine prompts from, and instructions."""
