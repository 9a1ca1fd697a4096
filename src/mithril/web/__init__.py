"""HTTP for every route: the edge of a listener, envelopes, request bodies, query parameters and conditions."""
