"""Limits on refused attempts, so that no caller can guess passwords, codes or secrets without end."""
