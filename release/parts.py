"""Print the list of parts of the container image, as CycloneDX: Debian's packages of its base, and Python's.

release/image runs this with the version, before it puts the image together from dist/base.tar and dist/image.
"""

import json
import sys
import tarfile
from collections.abc import Iterator
from email import message_from_bytes
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

DIST = Path(__file__).parents[1] / "dist"


def of_debian(base: Path) -> Iterator[dict[str, Any]]:
    """Yield the packages that a base was made of, each with the fields of its control file."""
    with tarfile.open(base) as files:
        for file in files:
            if file.isfile() and "/dpkg/status.d/" in file.name and (opened := files.extractfile(file)):
                fields = message_from_bytes(opened.read())
                name, version = str(fields["Package"]), str(fields["Version"])
                purl = f"pkg:deb/debian/{name}@{quote(version, safe='+~')}?arch={fields['Architecture']}"
                yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def of_python(site: Path) -> Iterator[dict[str, Any]]:
    """Yield the packages in a folder, but for this one."""
    for found in metadata.distributions(path=[str(site)]):
        name, version = found.name.lower().replace("_", "-"), found.version
        if name != "mithril":
            purl = f"pkg:pypi/{name}@{version}"
            yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def main() -> None:
    """Print the list. It is the same for the same parts."""
    (site,) = DIST.glob("image/usr/local/lib/python3*/dist-packages")
    parts = sorted([*of_debian(DIST / "base.tar"), *of_python(site)], key=lambda part: part["bom-ref"])
    image = {"type": "container", "bom-ref": "mithril", "name": "mithril", "version": sys.argv[1]}
    listed = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1}
    print(json.dumps(listed | {"metadata": {"component": image}, "components": parts}, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
