"""Writes what a release is made of, as CycloneDX JSON, into build/sbom.

    make sbom

python.cdx.json        the Python packages of a user: uv.lock without groups for developers
python-dev.cdx.json    with them
toolchain.cdx.json     package-lock.json: compiler, local chain, linters
dapp.cdx.json          dapp/package-lock.json
images.cdx.json        the container images that our files name
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.images import Image, named_images

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "build" / "sbom"
CYCLONEDX = ROOT / ".make" / "sbom" / "bin" / "cyclonedx-py"


def main() -> int:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    python("python", "--all-extras", "--no-default-groups")
    python("python-dev", "--all-extras", "--all-groups")
    npm("toolchain", ROOT)
    npm("dapp", ROOT / "dapp")
    write("images", images_document(named_images(ROOT)))
    for path in sorted(OUTPUT.glob("*.cdx.json")):
        found = json.loads(path.read_text())
        print(f"{path.relative_to(ROOT)}: {len(found.get('components', ()))} components")
    return 0


def python(name: str, *which: str) -> None:
    exported = run(
        *("uv", "export", "--frozen", "--quiet", "--no-emit-project"),
        *("--format", "requirements-txt"),
        *which,
    )
    requirements = OUTPUT / f"{name}.requirements.txt"
    requirements.write_text(exported)
    document = run(
        *(str(CYCLONEDX), "requirements", str(requirements)),
        *("--pyproject", str(ROOT / "pyproject.toml")),
        *("--output-format", "JSON", "--output-reproducible"),
    )
    requirements.unlink()
    write(name, json.loads(document))


def npm(name: str, folder: Path) -> None:
    document = run("npm", "sbom", "--sbom-format", "cyclonedx", "--package-lock-only", cwd=folder)
    write(name, json.loads(document))


def images_document(images: list[Image]) -> dict[str, Any]:
    components: list[dict[str, Any]] = []
    for image in images:
        component: dict[str, Any] = {
            "type": "container",
            "name": image.name,
            "version": image.tag or "latest",
            "properties": [{"name": "tallystick:named-in", "value": image.where}],
        }
        if image.digest:
            component["hashes"] = [{"alg": "SHA-256", "content": image.digest}]
        components.append(component)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(components))}",
        "version": 1,
        "components": components,
    }


def write(name: str, document: dict[str, Any]) -> None:
    (OUTPUT / f"{name}.cdx.json").write_text(json.dumps(document, indent=2) + "\n")


def run(*command: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"sbom: {command[0]} ended with {done.returncode}: {done.stderr[-600:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
