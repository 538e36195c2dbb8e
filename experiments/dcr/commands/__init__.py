"""Commands of DCR besides those of every experiment."""
