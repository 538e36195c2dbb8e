"""Judges of a dialogue's last answer: a language model by rubric, rules about language, people."""
