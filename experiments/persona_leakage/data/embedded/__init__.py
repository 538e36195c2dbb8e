"""Texts of our own: habits of writing, parts of marks, topics with advice."""
