"""The audit gate: a service that was not asked is no pass. Case 147."""

from __future__ import annotations

import pytest

from tools.audit import Asked, Finding, read_npm, read_pip_audit, tell


def test_nothing_known_is_a_pass() -> None:
    asked = Asked()
    read_pip_audit("uv.lock", [{"name": "a", "version": "1", "vulns": []}] * 10, asked)
    total = {"dependencies": {"total": 5}}
    read_npm("package-lock.json", {"vulnerabilities": {}, "metadata": total}, asked)
    assert tell(asked, {}) == 0
    assert asked.packages == 15


def test_a_finding_fails_unless_it_has_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked()
    known = [{"name": "a", "version": "1", "vulns": [{"id": "GHSA-1"}]}]
    read_pip_audit("uv.lock", known, asked)
    assert asked.findings == [Finding("GHSA-1", "a 1", "uv.lock")]
    assert tell(asked, {}) == 1
    assert "GHSA-1 in a 1" in capsys.readouterr().out
    assert tell(asked, {"GHSA-1": "Only reachable by what we never call."}) == 0


def test_an_advisory_of_npm_is_found_by_its_name() -> None:
    via = [{"url": "https://github.com/advisories/GHSA-2"}, "another"]
    said = {
        "vulnerabilities": {"b": {"via": via, "range": "<2"}},
        "metadata": {"dependencies": {"total": 1}},
    }
    asked = Asked()
    read_npm("package-lock.json", said, asked)
    assert asked.findings == [Finding("GHSA-2", "b <2", "package-lock.json")]


def test_a_service_that_knows_nothing_was_not_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """pip-audit itself passes here: it only skips."""
    asked = Asked()
    skipped = [{"name": "a", "skip_reason": "Dependency not found"}] * 10
    read_pip_audit("uv.lock", skipped, asked)
    read_npm("package-lock.json", {"message": "405 Method Not Allowed"}, asked)
    assert tell(asked, {}) == 2
    said = capsys.readouterr().out
    assert said.count("NOT ASKED") == 2
    assert "405" in said


def test_a_finding_weighs_more_than_a_service_that_was_not_asked() -> None:
    asked = Asked([Finding("GHSA-1", "a 1", "uv.lock")], ["dapp: not answered"])
    assert tell(asked, {}) == 1
