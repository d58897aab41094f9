"""What the audit of the pinned packages says of the reports it may get."""

import importlib.util
import json
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / ".ci/audit.py"


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(*packages):
    return json.dumps({"dependencies": packages, "fixes": []})


SOUND = {"name": "sound", "version": "1", "vulns": []}
HOLE = {"id": "PYSEC-1", "fix_versions": ["3"], "aliases": [], "description": ""}
BROKEN = {"name": "broken", "version": "2", "vulns": [HOLE]}
LEFT_OUT = {"name": "stranger", "skip_reason": "not found"}


@pytest.mark.parametrize("is_strict", [False, True])
def test_a_known_hole_fails_and_is_named_with_what_mends_it(audit, is_strict):
    status, lines = audit.verdict(report(SOUND, BROKEN), is_strict=is_strict)

    assert status == 1
    assert "broken 2: PYSEC-1, mended in 3" in lines


def test_packages_without_holes_pass(audit):
    assert audit.verdict(report(SOUND), is_strict=True) == (
        0,
        ["1 packages audited, 0 known holes"],
    )


@pytest.mark.parametrize("answer", [report(SOUND, LEFT_OUT), "", "ConnectionError: no route"])
def test_what_could_not_be_audited_is_said_and_fails_where_it_must_not_be(audit, answer):
    status, lines = audit.verdict(answer, is_strict=False)

    assert status == 0
    assert lines[0].startswith("NOT AUDITED: ")
    assert audit.verdict(answer, is_strict=True)[0] == 1
