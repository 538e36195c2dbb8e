"""MIRROR: a talker, and a thinker that keeps a bounded narrative of the conversation."""
