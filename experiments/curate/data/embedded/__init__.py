"""Texts of our own: rows with controls, what is drawn beside them, and an inventory of hazards."""
