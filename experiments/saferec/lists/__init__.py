"""Lists of recommendations in text, their hits, and the records they answer."""
