"""Update a client connection with the client that openapi-python-client generates."""

import os
from uuid import UUID

from mithril_client import AuthenticatedClient
from mithril_client.api.client_connections import update_client_connection
from mithril_client.models import UpdateClientConnectionBody, UpdatedConnectionAnswer

client = AuthenticatedClient(
    base_url=os.environ["SERVER"], token=os.environ["TOKEN"], headers={"API-key": os.environ["API_KEY"]}
)
answer = update_client_connection.sync(
    UUID(os.environ["CLIENT"]),
    UUID(os.environ["CONNECTION"]),
    client=client,
    body=UpdateClientConnectionBody(redirect_uri=os.environ["REDIRECT_URI"]),
)
assert isinstance(answer, UpdatedConnectionAnswer), answer
print(answer.data.redirect_uri)
