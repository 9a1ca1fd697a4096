"""The request of the README, as a reader pastes it."""

import json
import re
import subprocess
from typing import Any

from support import repository


def request_of_the_readme(public: str) -> dict[str, Any]:
    """Send it by curl to a server with demo data at this URL, and return the data of the answer, which must be 200."""
    readme = (repository() / "README.md").read_text()
    (request,) = re.findall(r"```sh\n(curl .*?)```", readme, re.DOTALL)
    script = request.replace("http://127.0.0.1:4000", public)
    ran = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    answer = json.loads(ran.stdout)
    assert answer["meta"]["code"] == 200, answer
    data: dict[str, Any] = answer["data"]
    return data
