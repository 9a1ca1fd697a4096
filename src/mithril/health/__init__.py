"""Whether the process lives and may be sent requests, and how many it has answered."""
