"""What gateways ask about every request; whether a token is good is decided in `tokens.verification`."""
