"""Sign a user in by Authlib, call the API, refresh the token. Needs the packages authlib and requests."""

import os
from http.server import BaseHTTPRequestHandler, HTTPServer

import requests
from authlib.common.security import generate_token
from authlib.integrations.requests_client import OAuth2Session

SERVER = os.environ.get("SERVER", "http://127.0.0.1:4000")
PORT = int(os.environ.get("PORT", "3000"))
CLIENT_ID, SECRET = "1380df72-275a-11e7-93ae-92361f002671", "ZlFOaHBTR0d3Q0hQcDEraHVYdXBVZz09"
API_KEY = {"API-key": "uXhEczJ56adsfh3Ri9SUkc4en"}


class Callback(BaseHTTPRequestHandler):
    """What the browser is sent back to."""

    def do_GET(self) -> None:
        """Keep the path with the code, and tell the user to go on."""
        returned.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"Signed in. This window can be closed.")

    def log_message(self, *_: object) -> None:
        """Log nothing: the path has the code."""


returned: list[str] = []
client = OAuth2Session(
    CLIENT_ID,
    SECRET,
    scope="employee:read connection:read",
    redirect_uri=f"http://localhost:{PORT}/callback",
    code_challenge_method="S256",
)
endpoints = requests.get(f"{SERVER}/.well-known/oauth-authorization-server", timeout=10).json()
verifier = generate_token(48)
url, state = client.create_authorization_url(endpoints["authorization_endpoint"], code_verifier=verifier)
with HTTPServer(("127.0.0.1", PORT), Callback) as listener:
    print("Open", url, flush=True)
    while not (returned and returned[-1].startswith("/callback?")):
        listener.handle_request()

client.fetch_token(
    endpoints["token_endpoint"], authorization_response=returned[-1], state=state, code_verifier=verifier
)
user = client.get(f"{SERVER}/oauth/user", headers=API_KEY)
user.raise_for_status()
print("Signed in as", user.json()["data"]["email"])
print("Refreshed:", client.refresh_token(endpoints["token_endpoint"])["access_token"])
