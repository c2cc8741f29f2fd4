"""A virtual environment for each peer, built once, outside the repository.

Torch, torchvision and timm are those that Espalier runs with: the peers are compared, not their
builds of torch, and five gigabytes are not stored twice. What a peer needs besides is installed
into its own environment and comes first there; pip touches nothing outside of it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from espalier.errors import EspalierError

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
PINNED = {
    "plain": ("torchvision", "timm", "psutil"),
    "timm": ("timm", "psutil"),
    "fastai": ("fastai==2.8.12", "timm", "psutil"),
}
IMPORTED = {"plain": "torchvision, timm", "timm": "timm", "fastai": "fastai.vision.all, timm"}


class EnvironmentBuildError(EspalierError):
    """The environment of a peer could not be built."""


def cache_folder() -> Path:
    """Where the environments are: ``ESPALIER_BENCH_ENVS``, else below the user's cache folder."""
    named = os.environ.get("ESPALIER_BENCH_ENVS")
    if named:
        return Path(named).expanduser().resolve()
    return Path.home() / ".cache" / "espalier-bench"


def interpreter(peer: str) -> Path:
    """The Python of a peer, ready to run; builds its environment the first time.

    Raises:
        EnvironmentBuildError: pip found no versions that fit together, or the peer does not import.
    """
    folder = cache_folder() / f"{peer}-{fingerprint(peer)}"
    python = folder / "bin" / "python"
    # Written last: an environment left half-built is built again.
    ready = folder / "ready"
    if not ready.exists():
        build(peer, folder, python)
        ready.write_text(versions_in(python), encoding="utf-8")
    return python


def fingerprint(peer: str) -> str:
    """Changes with all that the environment depends on."""
    shared = [f"{name}=={metadata.version(name)}" for name in ("torch", "torchvision", "timm")]
    text = "\n".join([sys.version, *shared_folders(), *PINNED[peer], *shared])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def shared_folders() -> list[str]:
    """Where the packages of this interpreter are."""
    paths = sysconfig.get_paths()
    return sorted({paths["purelib"], paths["platlib"]})


def build(peer: str, folder: Path, python: Path) -> None:
    """An environment that sees the packages of this one, and has the peer's own before them."""
    run(peer, [sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)])
    own = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    shared = "".join(f"{path}\n" for path in shared_folders())
    (Path(own) / "shared.pth").write_text(shared, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    run(peer, [*pip, "--constraint", str(CONSTRAINTS), *PINNED[peer]])
    run(peer, [str(python), "-c", f"import {IMPORTED[peer]}"])


def run(peer: str, words: list[str]) -> None:
    """Run one step of a build.

    Raises:
        EnvironmentBuildError: It failed; with the end of what it said.
    """
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise EnvironmentBuildError(
            f"the environment of {peer} could not be built: {done.stderr.strip()[-1500:]}",
            hint=f"leave it out: make bench-speed ARGS='--without {peer}'",
        )


def versions_in(python: Path) -> str:
    """Names and versions of all that an environment sees, one a line."""
    words = [sys.executable, "-m", "pip", "--python", str(python), "list", "--format", "freeze"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def peer_versions(peer: str) -> dict[str, str]:
    """Versions of what decides a peer's result."""
    text = (cache_folder() / f"{peer}-{fingerprint(peer)}" / "ready").read_text("utf-8")
    found = dict(line.split("==", 1) for line in text.splitlines() if "==" in line)
    return {name: found[name] for name in ("fastai", "fastcore", "timm", "torch") if name in found}
