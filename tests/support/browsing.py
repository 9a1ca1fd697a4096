"""The part of a user: the pages of signing in, as a browser without scripts goes through them."""

import re

import httpx


def sign_in(url: str, *, email: str, password: str) -> str:
    """Sign in at the URL, consent where that is asked, and return the URL to which the browser is sent back."""
    with httpx.Client() as browser:
        page = browser.get(url)
        page = browser.post(page.url, data={"email": email, "password": password, **_hidden(page)})
        while page.is_redirect and page.headers["location"].startswith("/"):
            page = browser.get(page.url.join(page.headers["location"]))
        if not page.is_redirect:
            page = browser.post(page.url, data={"decision": "allow", **_hidden(page)})
    assert page.status_code == 303, page.text
    return str(page.headers["location"])


def _hidden(page: httpx.Response) -> dict[str, str]:
    """Return the hidden fields of the page's form."""
    assert page.status_code == 200, page.text
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page.text))
