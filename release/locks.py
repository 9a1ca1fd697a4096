"""Write what a wheel needs of requirements.lock into dist: requirements.lock, and one file for each extra.

`make wheel` runs this. The tools of developers are left out. Only the lock file is read: no registry is asked.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENTRY = re.compile(r"^(?P<name>[a-z0-9.\-]+)(?P<extras>\[[^]]*\])?==.*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
# uv says which other package wants a package, also where it wants an extra of it.
WANTED_BY = re.compile(r"^ +#(?: via|  ) +(?P<name>[a-z0-9.\-]+)", re.MULTILINE)


def locks(project: dict[str, dict[str, dict[str, list[str]]]], lock: str) -> dict[str, str]:
    """Return the text of each file by its name. That of an extra has only what it adds."""
    entries = {found["name"]: found[0] for found in ENTRY.finditer(lock)}
    needed = closure(names(project["project"]["dependencies"]), entries)
    files = {"requirements.lock": text_of(needed, entries)}
    for extra, wanted in project["project"]["optional-dependencies"].items():
        files[f"requirements-{extra}.lock"] = text_of(closure(names(wanted), entries) - needed, entries)
    return files


def names(requirements: object) -> set[str]:
    """Return the names of the packages of a list of requirements."""
    assert isinstance(requirements, list)
    return {re.split(r"[^A-Za-z0-9.\-]", each)[0] for each in requirements}


def closure(wanted: set[str], entries: dict[str, str]) -> set[str]:
    """Return these packages, and all that they need."""
    while True:
        more = {name for name, entry in entries.items() if wanted & set(WANTED_BY.findall(entry))}
        if more <= wanted:
            return wanted
        wanted |= more


def text_of(needed: set[str], entries: dict[str, str]) -> str:
    """Return the entries of these packages, as the lock file has them."""
    return "".join(entries[name] for name in sorted(needed))


def main() -> None:
    """Write the files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for name, text in locks(project, (ROOT / "requirements.lock").read_text()).items():
        (ROOT / "dist" / name).write_text(text)


if __name__ == "__main__":
    main()
