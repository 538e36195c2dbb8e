"""What several experiments use: files, models to talk with, scores, judges, runs, the page."""
