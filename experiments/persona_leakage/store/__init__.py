"""Data separation: a store of conversations in which every user is alone."""
