"""Verdicts on answers: by rules, by functions, by a language model; and how far judges agree."""
