"""Small data and policies of our own: sentences split by instance, a tokenizer and a new policy."""
