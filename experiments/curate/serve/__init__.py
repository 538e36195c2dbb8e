"""An OpenAI-compatible server that puts MIRROR between any client and any model."""
