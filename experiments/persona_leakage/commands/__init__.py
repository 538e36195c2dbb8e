"""The commands that persona leakage has besides those of every experiment."""
