"""Rows on disk: JSON and JSON Lines, appended rows, TFDS folders, and sheets (csv, xlsx)."""
