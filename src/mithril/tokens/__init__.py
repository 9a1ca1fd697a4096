"""Tokens: what people's programs carry."""
