"""Dialogues in which an early turn decides what is safe to recommend in the last one."""
