"""The API descriptions, one document for each listener, completed with what has its source in the code.

Each document is merged from `public.yaml` or `internal.yaml`, from the files of the folder of that name, one for each
tag, and from what both listeners have: `service.yaml` and the folder `components`. `completion` adds what the files
leave out; `routes` serves the result.
"""

import functools
from importlib import resources as package_files
from typing import Any, Final

import msgspec
import yaml

from mithril import __version__
from mithril.connections import redirect_uris
from mithril.openapi import completion, files, for_tools
from mithril.openapi.completion import Description

FOLDER: Final = package_files.files("mithril.openapi")
SHARED: Final = ("components/headers", "components/parameters", "components/responses", "components/schemas", "service")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, ten times as fast, where PyYAML was built with it


@functools.lru_cache(maxsize=8)  # a caller may name any host
def render(listener: str, origin: str) -> files.File:
    """Return the document of `public` or `internal` as JSON.

    `origin` is where callers reach the listener. Programs need it whole: many do not know where the document is from.
    """
    servers = msgspec.json.encode({"servers": [{"url": origin}]})
    return files.file(servers[:-1] + b"," + _encoded(listener)[1:], "application/json")


@functools.cache
def _encoded(listener: str) -> bytes:
    return msgspec.json.encode(_load(listener))


def load() -> Description:
    """Return the public document without its servers."""
    return _load("public")


def load_internal() -> Description:
    """Return the internal document without its servers."""
    return _load("internal")


def merged(listener: str) -> Description:
    """Return the files of the document of `public` or `internal` as one document, before anything is completed."""
    own = sorted(file.name.removesuffix(".yaml") for file in FOLDER.joinpath(listener).iterdir())
    names = (*(f"{listener}/{name}" for name in own), *SHARED)
    return completion.merged(_read(listener), [_read(name) for name in names])


def _load(listener: str) -> Description:
    return completion.without_unused(for_tools.prepared(completion.completed(merged(listener))))


def _read(name: str) -> Description:
    """Return a fresh copy of one file, which completion may change."""
    document: Description = _filled(_parsed(name), _sources())
    return document


@functools.cache
def _parsed(name: str) -> Description:
    text = FOLDER.joinpath(f"{name}.yaml").read_bytes()
    written: Description = yaml.load(text, Loader=_LOADER)  # noqa: S506 -- a safe loader, whichever of the two it is
    return written


@functools.cache
def _sources() -> dict[str, object]:
    """Return what stands in for a `$ref` of this name."""
    # The schemas of request bodies are in the folders of the nouns, where the routes read them too.
    nouns = [noun for noun in package_files.files("mithril").iterdir() if noun.is_dir()]
    paths = [path for noun in nouns for path in noun.iterdir() if path.name.endswith(".json")]
    bodies = {path.name: msgspec.json.decode(path.read_bytes()) for path in paths}
    return {
        **{name: _of_new(schema) for name, schema in bodies.items()},
        **{f"changes/{name}": _of_changes(schema) for name, schema in bodies.items()},
        **{f"examples/{name}": example for name, example in _parsed("components/examples").items()},
        "accepted_pattern": redirect_uris.ACCEPTED_PATTERN,
        "files": sorted(files.NAMES),
        "reasons": list(redirect_uris.DESCRIPTIONS),
        "version": __version__,
    }


def _of_new(schema: Description) -> Description:
    """Return the schema for callers: they may leave out what has a default, though the server requires it then."""
    required = [name for name in schema.get("required", ()) if "default" not in schema["properties"][name]]
    return schema | ({"required": required} if required else {})


def _of_changes(schema: Description) -> Description:
    """Return the schema of a change: what is left out stays as it is, so nothing is required or has a default."""
    properties = {
        name: {keyword: value for keyword, value in each.items() if keyword != "default"}
        for name, each in schema.get("properties", {}).items()
    }
    return {keyword: value for keyword, value in schema.items() if keyword != "required"} | {"properties": properties}


def _filled(node: Any, sources: dict[str, object]) -> Any:  # noqa: ANN401 -- YAML may be anything
    """Return a copy in which each `$ref` to a source is replaced by it; what stands beside the `$ref` overrides it."""
    if isinstance(node, list):
        return [_filled(child, sources) for child in node]
    if not isinstance(node, dict):
        return node
    children = {key: _filled(child, sources) for key, child in node.items()}
    source = sources.get(node.get("$ref", ""))
    if isinstance(source, dict):
        return source | {key: child for key, child in children.items() if key != "$ref"}
    return children if source is None else source
