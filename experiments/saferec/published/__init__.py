"""The files and the conventions that the authors published."""
