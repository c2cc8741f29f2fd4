"""Pretrained weights of timm, from the hub or its local cache, with a clear word when offline."""

from __future__ import annotations

import os
import socket
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import huggingface_hub.constants
import safetensors
from torch import nn

from espalier.errors import WeightsError

_CONNECT_SECONDS = 5.0
# The hub's client lets the errors of its transport through; which transport depends on its version.
_NETWORK_PACKAGES = ("httpx", "httpcore", "requests", "urllib3")


def load_pretrained(name: str, create: Callable[[], nn.Module]) -> nn.Module:
    """What ``create`` builds with timm's weights, from the hub or its local cache.

    Raises:
        WeightsError: They cannot be fetched; says why, and offers the two ways on.
    """
    reachable = _hub_reachable()
    try:
        with _offline(not reachable):
            return create()
    except Exception as error:
        if not _is_failed_fetch(error):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if not reachable:
            reason = f"no connection to {_hub_host()}, and they are not in the local cache"
        raise WeightsError(
            f"The pretrained weights of {name} could not be fetched: {reason}.",
            hint="--weights FILE (a .safetensors or .pth file), or --weights none to start "
            "from scratch",
        ) from error


def _is_failed_fetch(error: Exception) -> bool:
    """Whether an exception is of the network, the hub or a damaged download, and not a bug."""
    if isinstance(error, OSError | RuntimeError | ValueError | safetensors.SafetensorError):
        return True
    return type(error).__module__.partition(".")[0] in _NETWORK_PACKAGES


def _hub_host() -> str:
    return urlsplit(huggingface_hub.constants.ENDPOINT).hostname or ""


def _hub_reachable() -> bool:
    """Whether the hub answers at all; its client would retry for most of a minute to find out."""
    if huggingface_hub.constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE") == "1":
        return False
    if urllib.request.getproxies():
        return True
    address = urlsplit(huggingface_hub.constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((_hub_host(), port), timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


@contextmanager
def _offline(needed: bool) -> Iterator[None]:
    """Makes the hub's client look into its cache only, for as long as the block runs."""
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = needed or before
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before
