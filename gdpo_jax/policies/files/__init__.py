"""Policies in and out of files: published folders, GGUF, adapters, their tokenizers."""
