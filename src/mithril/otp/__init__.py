"""One-time passwords: the codes of the second factor, and where they go."""
