"""Clients: legal entities, medical information systems and tools that act for users."""
