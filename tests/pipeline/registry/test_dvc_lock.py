"""The hashes by which a version names its files are those of DVC."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.errors import InputError
from pipeline.registry import cached, lineage
from tests.repositories import git

_FILES = {
    "b.bin": b"\x00\x01",
    "a.txt": b"text\n",
    "empty": b"",
    "inner/deep/c.csv": b"x\r\n",
    "inner.csv": b"y",
    "ä": b"z",
}


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """DVC's own hashes of a folder and of a file, which lie in the current folder."""
    for name, content in _FILES.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "file.json").write_bytes(b"{}\r\n")
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(tmp_path / "site")}
    for command in (["init", "--no-scm", "--quiet"], ["add", "--quiet", "folder", "file.json"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], check=True, env=environment)
    added = {name: YAML(typ="safe").load(Path(f"{name}.dvc"))["outs"][0]["md5"] for name in ("folder", "file.json")}
    entries = "".join(f"    - {{path: {name}, md5: {digest}}}\n" for name, digest in added.items())
    lineage.LOCK.write_text(f"stages:\n  train:\n    outs:\n{entries}")
    return added


@pytest.mark.slow
def test_files_and_folders_have_the_hashes_of_dvc(hashed: dict[str, str]) -> None:
    assert hashed["folder"].endswith(".dir")
    cached.check([Path("folder"), Path("file.json")])
    Path("folder/inner/deep/c.csv").write_bytes(b"x\n")
    with pytest.raises(InputError, match=r"^folder is not what dvc\.lock records; run `dvc repro`$"):
        cached.check([Path("folder"), Path("file.json")])


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
    found = lineage.git_patch()
    assert "secret" not in found.text
    assert set(found.left_out) == {".env", "credentials.json", "quotes.csv", "generated.py"}
    for name in ("code.py", "new.py"):
        Path(name).unlink()
    git(repository, "checkout", "--quiet", "code.py")
    Path("changes.patch").write_text(found.text)
    git(repository, "apply", "changes.patch")
    assert (Path("code.py").read_text(), Path("new.py").read_text()) == ("two\n", "three\n")


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
    found = lineage.git_patch()
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
    assert lineage.git_patch() == lineage.Patch("", ("code.py",))


@pytest.mark.slow
def test_a_patch_of_large_changes_is_left_out_whole(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    Path("code.py").write_text("x\n" * 6_000_000)
    Path("new.py").touch()
    assert lineage.git_patch() == lineage.Patch("", ("code.py", "new.py"))


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff\x93", b"stages: [1, 2]", b"stages: {train: 3}", b"a: {", b"[" * 100_000]
)
def test_a_damaged_lock_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dvc.lock").write_bytes(content)
    with pytest.raises(InputError, match=r"dvc\.lock is damaged; remove it, then `dvc repro` writes it anew$"):
        lineage.recorded(tmp_path / "dvc.lock")
