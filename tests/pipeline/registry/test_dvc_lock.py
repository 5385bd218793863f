"""The hashes by which a version names its files are those of DVC."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.errors import InputError
from pipeline.registry import cached, dvc_lock

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
    dvc_lock.LOCK.write_text(f"stages:\n  train:\n    outs:\n{entries}")
    return added


@pytest.mark.slow
def test_files_and_folders_have_the_hashes_of_dvc(hashed: dict[str, str]) -> None:
    assert hashed["folder"].endswith(".dir")
    cached.check([Path("folder"), Path("file.json")])
    Path("folder/inner/deep/c.csv").write_bytes(b"x\n")
    with pytest.raises(InputError, match=r"^folder is not what dvc\.lock records; run `dvc repro`$"):
        cached.check([Path("folder"), Path("file.json")])


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff\x93", b"stages: [1, 2]", b"stages: {train: 3}", b"a: {", b"[" * 100_000]
)
def test_a_damaged_lock_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dvc.lock").write_bytes(content)
    with pytest.raises(InputError, match=r"dvc\.lock is damaged; remove it, then `dvc repro` writes it anew$"):
        dvc_lock.recorded(tmp_path / "dvc.lock")
