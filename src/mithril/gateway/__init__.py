"""The methods that a gateway calls for every request. The rules of a valid token are in `tokens.verification`."""
