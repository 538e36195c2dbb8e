"""A run folder: what its stages write and read."""
