"""What every route needs: the edge of a listener, envelopes, request bodies, query parameters and conditions."""
