"""What the files of the internal description leave out, since it follows from the rest.

Parameters and answers that many methods have in common, the header that every answer has, and `meta` in the examples
of answers: its code is that of the answer, its address that of the method.
"""

import re
from typing import Any, Final

Document = dict[str, Any]

ORIGIN: Final = "http://127.0.0.1:4001"
REQUEST_ID: Final = "0c7a1be2f5d84e63a9d1c0b4"
# Stands for what is secret, or cannot be told from the example.
MASK: Final = "***"
REQUEST_ID_HEADER: Final = {"$ref": "#/components/headers/X-Request-ID"}


def merged(document: Document, parts: list[Document]) -> Document:
    """The document with the paths and components of its parts; no two may have the same."""
    paths, components = dict(document["paths"]), {kind: dict(named) for kind, named in document["components"].items()}
    for part in parts:
        _add(paths, part["paths"])
        for kind, named in part.get("components", {}).items():
            _add(components.setdefault(kind, {}), named)
    return document | {"paths": paths, "components": components}


def completed(document: Document) -> Document:
    """The document with all that was left out; changes its operations and answers in place."""
    common, with_body = document.pop("x-common"), document.pop("x-common-with-body")
    for answer in document["components"]["responses"].values():
        _complete_answer(answer, meta={"url": ORIGIN})
    for path, item in document["paths"].items():
        for operation in item.values():
            answers = operation["responses"]
            for status, answer in answers.items():
                _complete_answer(answer, meta={"code": int(status), "url": ORIGIN + path})
            known = common["responses"] | (with_body["responses"] if "requestBody" in operation else {})
            operation["parameters"] = [*operation.get("parameters", []), *common["parameters"]]
            operation["responses"] = dict(sorted((known | answers).items()))
    return document


def _add(known: Document, more: Document) -> None:
    twice = known.keys() & more.keys()
    assert not twice, f"described twice: {', '.join(sorted(twice))}"
    known |= more


def _complete_answer(answer: Document, *, meta: Document) -> None:
    if "$ref" in answer:
        return
    answer["headers"] = answer.get("headers", {}) | {"X-Request-ID": REQUEST_ID_HEADER}
    for media in answer.get("content", {}).values():
        for example in media.get("examples", {}).values():
            example["value"] = _in_envelope(example["value"], meta)


def _in_envelope(value: Document, meta: Document) -> Document:
    """The example with its whole `meta`; the address has the identifiers that are among its data."""
    data = value.get("data")
    row = data[0] if isinstance(data, list) and data else data
    known = row if isinstance(row, dict) else {}
    url = re.sub(r"{(\w+)}", lambda name: str(known.get(name[1], MASK)), meta["url"])
    kind = "list" if isinstance(data, list) else "object"
    given = {"type": kind, "request_id": REQUEST_ID} | meta | {"url": url} | value.get("meta", {})
    return {"meta": given} | {name: part for name, part in value.items() if name != "meta"}
