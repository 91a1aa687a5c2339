"""Asks the vulnerability services about every package that a lock file of ours names.

    make audit

Three answers, never confused: nothing is known (0), something is known that
tools/audit_allowed.toml does not accept (1), a service could not be asked (2). pip-audit itself
passes when a registry knows no package at all; here that is the third.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = ROOT / "tools" / "audit_allowed.toml"
PIP_AUDIT = ROOT / ".make" / "audit" / "bin" / "pip-audit"
SELDOM_KNOWN = 0.2
"""Of the packages of a lock file so many may be unknown to the service: builds with a local label,
packages of one's own. With more of them it is not the service that we think it is."""


@dataclass(frozen=True, slots=True)
class Finding:
    id: str
    package: str
    where: str


@dataclass
class Asked:
    """What became of the questions."""

    findings: list[Finding] = field(default_factory=list)
    unasked: list[str] = field(default_factory=list)
    """Sentences; each names a lock file and why nobody could be asked about it."""
    packages: int = 0


def main() -> int:
    asked = Asked()
    for name, lock in python_locks():
        ask_pip_audit(name, lock, asked)
    for folder in ("", "dapp"):
        ask_npm(folder, asked)
    return tell(asked, allowed())


def python_locks() -> Iterator[tuple[str, str]]:
    """Name and pinned requirements of each environment."""
    exported = subprocess.run(
        [
            *("uv", "export", "--frozen", "--quiet", "--all-extras", "--all-groups"),
            *("--no-emit-project", "--format", "requirements-txt"),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    yield "uv.lock", exported.stdout
    for path in sorted((ROOT / "tools" / "environments").glob("*.txt")):
        yield path.relative_to(ROOT).as_posix(), path.read_text()


def ask_pip_audit(name: str, requirements: str, asked: Asked) -> None:
    path = ROOT / "build" / "audit" / (name.replace("/", "-") + ".txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(requirements)
    done = subprocess.run(
        [
            *(str(PIP_AUDIT), "--require-hashes", "--disable-pip", "--progress-spinner", "off"),
            *("--format", "json", "--requirement", str(path)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        known = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        asked.unasked.append(f"{name}: pip-audit ended with {done.returncode}: {last[:300]}")
        return
    read_pip_audit(name, known, asked)


def read_pip_audit(name: str, known: list[dict[str, Any]], asked: Asked) -> None:
    skipped = [one["name"] for one in known if "skip_reason" in one]
    if not known or len(skipped) > SELDOM_KNOWN * len(known):
        asked.unasked.append(
            f"{name}: the service knows {len(known) - len(skipped)} of {len(known)} packages"
        )
        return
    asked.packages += len(known) - len(skipped)
    for one in known:
        for found in one.get("vulns", ()):
            asked.findings.append(Finding(found["id"], f"{one['name']} {one['version']}", name))


def ask_npm(folder: str, asked: Asked) -> None:
    name = f"{folder}/package-lock.json".lstrip("/")
    done = subprocess.run(
        ["npm", "audit", "--json", "--package-lock-only"],
        cwd=ROOT / folder,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        said = json.loads(done.stdout)
    except ValueError:
        asked.unasked.append(f"{name}: npm audit said no JSON")
        return
    read_npm(name, said, asked)


def read_npm(name: str, said: dict[str, Any], asked: Asked) -> None:
    if "vulnerabilities" not in said:
        why = said.get("message") or said.get("error", {}).get("summary") or "no report"
        asked.unasked.append(f"{name}: npm audit was not answered: {str(why)[:200]}")
        return
    asked.packages += said["metadata"]["dependencies"]["total"]
    for package, found in said["vulnerabilities"].items():
        for via in found["via"]:
            if isinstance(via, dict):
                advisory = str(via["url"]).rpartition("/")[2]
                asked.findings.append(Finding(advisory, f"{package} {found['range']}", name))


def allowed() -> dict[str, str]:
    """Reasons by the finding's id."""
    table: dict[str, str] = tomllib.loads(ALLOWED.read_text()).get("allowed", {})
    for finding, reason in table.items():
        if len(str(reason)) < 20:
            raise SystemExit(f"audit: {ALLOWED.name} gives no reason for {finding}")
    return table


def tell(asked: Asked, reasons: dict[str, str]) -> int:
    open_findings = [one for one in asked.findings if one.id not in reasons]
    for one in open_findings:
        print(f"audit: {one.id} in {one.package}, of {one.where}")
    for one in asked.findings:
        if one.id in reasons:
            print(f"audit: accepted: {one.id} in {one.package}: {reasons[one.id]}")
    if not asked.unasked:
        for stale in sorted(set(reasons) - {one.id for one in asked.findings}):
            print(f"audit: {stale} is accepted in {ALLOWED.name} and nobody reports it any more")
    for sentence in asked.unasked:
        print(f"audit: NOT ASKED: {sentence}")
    if asked.unasked:
        print(
            "audit: not everything could be asked, so this is no pass. Run `make audit` where "
            "pypi.org's JSON pages and npm's audit endpoint can be reached."
        )
    print(f"audit: {asked.packages} packages asked about, {len(open_findings)} findings open")
    return 1 if open_findings else 2 if asked.unasked else 0


if __name__ == "__main__":
    sys.exit(main())
