"""A patch has the changes that a version was made with, and git applies it."""

import os
from pathlib import Path

import pytest

from pipeline.registry import git_state
from tests.repositories import git


def test_a_patch_has_tracked_changes_and_new_code_alone(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither secrets nor data; it names what it leaves out, and git applies it."""
    monkeypatch.chdir(repository)
    Path("code.py").write_text("two\n")
    Path("new.py").write_text("three\n")
    Path(".env").write_text("TOKEN=secret\n")
    Path("credentials.json").write_text('{"password": "secret"}')
    Path("quotes.csv").write_text("date,iv\n" * 1000)
    Path("generated.py").write_text("x = 1\n" * 300_000)
    Path("dvc.lock").write_text("schema: '2.0'\n")
    found = git_state.patch()
    assert "secret" not in found.text
    assert set(found.left_out) == {".env", "credentials.json", "quotes.csv", "generated.py"}
    for name in ("code.py", "new.py"):
        Path(name).unlink()
    git(repository, "checkout", "--quiet", "code.py")
    Path("changes.patch").write_text(found.text)
    git(repository, "apply", "changes.patch")
    assert (Path("code.py").read_text(), Path("new.py").read_text()) == ("two\n", "three\n")


@pytest.mark.slow
def test_a_patch_does_not_depend_on_settings_of_git_or_on_the_number_of_files(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    for setting, value in (("diff.noprefix", "true"), ("color.ui", "always"), ("core.autocrlf", "false")):
        git(repository, "config", setting, value)
    Path("code.py").write_bytes(b"one\r\ntwo\r\n")
    git(repository, "commit", "--quiet", "-am", "lines of Windows")
    Path("code.py").write_bytes(b"one\r\nthree\r\n")
    names = [f"{number:04}{'x' * 200}.py" for number in range(10_500)]  # more than a command line takes
    for name in names:
        Path(name).touch()
    Path(os.fsdecode(b"caf\xe9.csv")).touch()
    Path(".#code.py").symlink_to("user@host.123:456")  # Emacs's lock
    found = git_state.patch()
    assert set(found.left_out) == {"caf\\xe9.csv", ".#code.py"}
    for name in names:
        Path(name).unlink()
    git(repository, "checkout", "--quiet", "code.py")
    Path("changes.patch").write_text(found.text)
    git(repository, "apply", "changes.patch")
    assert Path("code.py").read_bytes() == b"one\r\nthree\r\n"
    assert all(Path(name).exists() for name in names)


def test_a_patch_that_is_no_utf_8_is_left_out_whole(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    Path("code.py").write_bytes(b"# caf\xe9\n")
    assert git_state.patch() == git_state.Patch("", ("code.py",))


@pytest.mark.slow
def test_a_patch_of_large_changes_is_left_out_whole(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    Path("code.py").write_text("x\n" * 6_000_000)
    Path("new.py").touch()
    assert git_state.patch() == git_state.Patch("", ("code.py", "new.py"))
