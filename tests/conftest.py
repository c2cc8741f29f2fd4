"""What every test shares: the data beside the repository, and quiet surroundings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Sets what libraries read once, when they are imported, for this process and its children."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["MPLBACKEND"] = "Agg"
    # Without network the hub tries for a minute before it gives up; offline it says so at once.
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Decoded pictures, features and figures of one test run, and never those of the user.
    if "ESPALIER_TEST_CACHE" not in os.environ:
        os.environ["ESPALIER_TEST_CACHE"] = tempfile.mkdtemp(prefix="espalier-test-cache-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ["ESPALIER_TEST_CACHE"], True))
    os.environ["ESPALIER_CACHE"] = os.environ["ESPALIER_TEST_CACHE"]
    if getattr(config, "cache", None) is not None:
        cache = config.cache.mkdir("home")
        # Kept between runs: building matplotlib's font list takes seconds.
        os.environ["MPLCONFIGDIR"] = str(cache / "matplotlib")
        os.environ["XDG_CACHE_HOME"] = str(cache / "xdg")
        os.environ["HF_HOME"] = str(cache / "huggingface")
        os.environ["TORCH_HOME"] = str(cache / "torch")


@pytest.fixture(autouse=True)
def quiet_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """One arithmetic thread, and none of the user's own settings."""
    for name in ("DIAGNOSTICS_DIR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def _present(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"needs {os.path.relpath(path, ROOT)}, which is not here")
    return path


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data sets and weights beside the repository."""
    return _present(ROOT.parent / "shared")


@pytest.fixture(scope="session")
def seedlings(shared: Path) -> Path:
    """Twelve species of seedlings, split into train, val and test."""
    return _present(shared / "datasets" / "plant_seedlings12")


@pytest.fixture(scope="session")
def trashnet(shared: Path) -> Path:
    """Six kinds of waste, split into train, val and test."""
    return _present(shared / "datasets" / "trashnet6")


@pytest.fixture(scope="session")
def dishes(shared: Path) -> Path:
    """Forty photographs of clean and dirty plates, not split."""
    return _present(shared / "datasets" / "dishes2" / "originals")


@pytest.fixture(scope="session")
def mobilenetv2_weights(shared: Path) -> Path:
    """MobileNetV2 as timm names its tensors, trained on ImageNet."""
    return _present(shared / "weights" / "mobilenetv2_100.timm.safetensors")


@pytest.fixture(scope="session")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 18, 12 and 6 tiny pictures."""
    from small_runs import uneven_photos

    return uneven_photos(tmp_path_factory.mktemp("uneven") / "photos")


@pytest.fixture
def screenshot(tmp_path: Path) -> Callable[..., npt.NDArray[np.uint8]]:
    """Shows a page in a browser that reaches no network: page, options -> pixels [H, W, 3]."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip("no Chromium or Chrome is installed")
    picture = tmp_path / "screenshot.png"
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--hide-scrollbars", "--force-device-scale-factor=1",
        f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--screenshot={picture}",
    ]  # fmt: skip

    def show(page: Path, *options: str) -> npt.NDArray[np.uint8]:
        import numpy as np
        from PIL import Image

        done = subprocess.run(
            [*command, *options, page.as_uri()], capture_output=True, text=True, timeout=90
        )
        assert picture.exists(), done.stderr
        assert "Refused to" not in done.stderr
        with Image.open(picture) as opened:
            return np.asarray(opened.convert("RGB")).copy()

    return show
