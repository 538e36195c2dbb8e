"""Users, their conversations, what is asked of an assistant, and files of all of these."""
