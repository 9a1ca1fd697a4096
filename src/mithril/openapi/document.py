"""The API descriptions, one document for each listener, completed with what has its source in the code.

What the methods do is written in `openapi.yaml`, for the public listener, and in `internal.yaml` and the files of the
folder `internal`, whose components are those of the public one and their own. How they are served is in `routes`.
"""

import functools
from collections.abc import Iterator
from importlib import resources as package_files
from typing import Any, Final

import msgspec
import yaml

from mithril import __version__
from mithril.connections import redirect_uris
from mithril.openapi import completion, files

# The published schemas of request bodies, in files that the routes read too.
BODIES: Final = {
    "mithril.connections": ("connection_update.json", "redirect_uri_check.json", "refresh_secret.json"),
    "mithril.oauth": (
        "app_authorize.json",
        "authorize_2fa.json",
        "code_grant.json",
        "login_password.json",
        "nonce.json",
        "refresh_grant.json",
    ),
}
INTERNAL_BODIES: Final = {
    "mithril.approvals": ("approval.json",),
    "mithril.clients": ("client.json",),
    "mithril.connections": ("connection_put.json",),
    "mithril.gateway": ("token_verify.json",),
    "mithril.otp": ("factor.json",),
    "mithril.user_roles": ("global_user_role.json", "user_role.json"),
    "mithril.scope_sets": ("named_scope.json",),
    "mithril.tokens": ("token.json",),
    "mithril.users": ("block.json", "password_change.json", "user.json"),
}
# On both listeners alike.
SHARED_PATHS: Final = ("/healthz", "/readyz", "/openapi.json", "/docs", "/docs/{file}")
Document = dict[str, Any]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, ten times as fast, where PyYAML was built with it


@functools.cache
def render(public_url: str) -> files.File:
    """The document as JSON; `public_url` is where callers find the server, empty: where they found the document."""
    servers = [{"url": public_url.rstrip("/") or "/"}]
    return files.file(msgspec.json.encode(load() | {"servers": servers}), "application/json")


@functools.cache
def render_internal() -> files.File:
    """The internal listener's document as JSON."""
    return files.file(msgspec.json.encode(load_internal() | {"servers": [{"url": "/"}]}), "application/json")


def load() -> Document:
    """The public document without its servers. Takes about ten milliseconds."""
    return _read("openapi.yaml")


def load_internal() -> Document:
    """The internal document without its servers: with the answers that every method may give, and no more
    components than it uses.
    """
    folder = package_files.files("mithril.openapi").joinpath("internal")
    parts = [_read(f"internal/{name}") for name in sorted(file.name for file in folder.iterdir())]
    document, public = completion.completed(completion.merged(_read("internal.yaml"), parts)), load()
    document["paths"] |= {path: public["paths"][path] for path in SHARED_PATHS}
    own, theirs = document["components"], public["components"]
    document["components"] = {kind: theirs.get(kind, {}) | own.get(kind, {}) for kind in theirs | own}
    return _without_unused(document)


def _read(name: str) -> Document:
    text = package_files.files("mithril.openapi").joinpath(name).read_bytes()
    written = yaml.load(text, Loader=_LOADER)  # noqa: S506 -- a safe loader, whichever of the two it is
    document: Document = _completed(written, _sources())
    return document


def _without_unused(document: Document) -> Document:
    """The document without the components that nothing refers to, directly or through others."""
    components = document["components"]
    wanted, used = list(_references(document["paths"])), set()
    while wanted:
        reference = wanted.pop()
        if reference not in used:
            used.add(reference)
            kind, name = reference.removeprefix("#/components/").split("/")
            wanted.extend(_references(components[kind][name]))
    kept = {
        kind: {name: each for name, each in named.items() if f"#/components/{kind}/{name}" in used}
        for kind, named in components.items()
        if kind != "securitySchemes"
    }
    schemes = {name for rule in document["security"] for name in rule}
    kept["securitySchemes"] = {name: each for name, each in components["securitySchemes"].items() if name in schemes}
    return document | {"components": {kind: named for kind, named in kept.items() if named}}


def _references(node: Any) -> Iterator[str]:  # noqa: ANN401 -- JSON may be anything
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from _references(child)
    elif isinstance(node, list):
        for child in node:
            yield from _references(child)


def _sources() -> dict[str, object]:
    """What stands in for a `$ref` of this name."""
    packages = [*BODIES.items(), *INTERNAL_BODIES.items()]
    paths = [package_files.files(package).joinpath(name) for package, names in packages for name in names]
    bodies = {path.name: msgspec.json.decode(path.read_bytes()) for path in paths}
    return {
        **{name: _of_new(schema) for name, schema in bodies.items()},
        **{f"changes/{name}": _of_changes(schema) for name, schema in bodies.items()},
        "accepted_pattern": redirect_uris.ACCEPTED_PATTERN,
        "files": sorted(files.NAMES),
        "reasons": list(redirect_uris.DESCRIPTIONS),
        "version": __version__,
    }


def _of_new(schema: Document) -> Document:
    """The schema for callers: what has a default need not be given, though the server wants it to be there then."""
    required = [name for name in schema.get("required", ()) if "default" not in schema["properties"][name]]
    return schema | ({"required": required} if required else {})


def _of_changes(schema: Document) -> Document:
    """The schema of a change, in which what is not given stays as it is: nothing is required, nothing has a default."""
    properties = {
        name: {keyword: value for keyword, value in each.items() if keyword != "default"}
        for name, each in schema.get("properties", {}).items()
    }
    return {keyword: value for keyword, value in schema.items() if keyword != "required"} | {"properties": properties}


def _completed(node: Any, sources: dict[str, object]) -> Any:  # noqa: ANN401 -- YAML may be anything
    if isinstance(node, list):
        return [_completed(child, sources) for child in node]
    if not isinstance(node, dict):
        return node
    if node.get("$ref") in sources:
        return sources[node["$ref"]]
    return {key: _completed(child, sources) for key, child in node.items()}
