"""The embedded SafeRec: invented films, games and conversations."""
