"""What several experiments use: files, chats with models, and judges of answers."""
