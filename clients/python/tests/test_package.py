"""What is in the packages that are built of this folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling import build

from conftest import ROOT
from test_programs import HERE

LICENCE = (ROOT / "LICENSE").read_bytes()


def test_the_licence_is_that_of_the_repository() -> None:
    # A package takes nothing from outside its folder, so there is a copy: `cp ../../LICENSE .` mends it.
    assert (HERE / "LICENSE").read_bytes() == LICENCE


def test_packages_have_the_licence_and_the_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    with zipfile.ZipFile(tmp_path / build.build_wheel(str(tmp_path))) as wheel:
        names = wheel.namelist()
        (licence,) = (name for name in names if name.endswith(".dist-info/licenses/LICENSE"))
        assert wheel.read(licence) == LICENCE
        assert "tickgate/py.typed" in names
        modules = {f"tickgate/{path.name}" for path in (HERE / "src" / "tickgate").glob("*.py")}
        assert {name for name in names if name.endswith(".py")} == modules
        metadata = wheel.read(licence.replace("licenses/LICENSE", "METADATA")).decode()
        assert "License-Expression: Apache-2.0\nLicense-File: LICENSE\n" in metadata
    name = build.build_sdist(str(tmp_path))
    with tarfile.open(tmp_path / name) as sources:
        folder = name.removesuffix(".tar.gz")
        copy = sources.extractfile(f"{folder}/LICENSE")
        assert copy is not None
        assert copy.read() == LICENCE
        assert {f"{folder}/src/tickgate/py.typed", f"{folder}/README.md"} <= set(sources.getnames())


@pytest.mark.parametrize(("ci", "status"), [("true", pytest.ExitCode.INTERRUPTED), ("", pytest.ExitCode.NO_TESTS_COLLECTED)])
def test_without_a_kernel_the_notebook_is_left_out_but_in_ci(tmp_path: Path, ci: str, status: pytest.ExitCode) -> None:
    # It was left out there in silence, too.
    (tmp_path / "ipykernel.py").write_text("raise ModuleNotFoundError('no kernel here', name='ipykernel')\n")
    paths = os.pathsep.join([str(tmp_path), str(HERE / "src")])
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/test_notebook.py"]
    done = subprocess.run(command, cwd=HERE, env={**os.environ, "CI": ci, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == status, done.stdout
    assert "no kernel here" in done.stdout
