"""Installed packages are tried in processes of their own."""

from __future__ import annotations

import os
import sys

import pytest

from pyimgano.cli._trial import UNTRIED, trials


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_what_fails_crashes_or_hangs_is_told(tmp_path, monkeypatch):
    for name, code in {
        "sound": "print('hello')",
        "torn": "print('x')\nraise ValueError('no such\\nlibrary')",
        "crash": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    }.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with trials(("sound", "torn", "crash"), 60) as tried:
        failed = tried()
    assert failed == {"torn": "library", "crash": "the process ended with -11"}


def test_an_endless_import_is_ended(tmp_path, monkeypatch):
    (tmp_path / "endless.py").write_text(
        f"import os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "import time; time.sleep(600)"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with trials(("endless",), 0.0) as tried:
        assert tried() == {"endless": UNTRIED}
    if (tmp_path / "pid").exists() and sys.platform != "win32":
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)
