"""Classifier heads, started so that the first loss is the loss of chance."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal

from torch import nn

# Initial logits have about this spread per unit of feature spread: the first loss is ln K to
# within a few thousandths, yet the hidden layer gets a gradient from the first step on, which
# it would not behind weights of exactly zero. timm's own start gives MobileNetV2 a first loss of
# 13 with six classes, and costs it 10 points in a short run.
_INITIAL_LOGIT_SPREAD = 0.02


def build_head(
    kind: Literal["mlp", "linear"], features: int, hidden: int, dropout: float, classes: int
) -> nn.Sequential:
    """A head from pooled features [B, features] to logits [B, classes].

    Args:
        kind: ``mlp``: Dropout(p), Linear, ReLU, Dropout(p / 2), Linear; ``linear``: Dropout(p),
            Linear.
        features: Length of the feature vector.
        hidden: Width of the hidden layer of ``mlp``.
        dropout: p, in [0, 1).
        classes: How many logits.
    """
    if kind == "linear":
        layers = [("dropout", nn.Dropout(dropout)), ("logits", _logits(features, classes))]
        return nn.Sequential(OrderedDict[str, nn.Module](layers))
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            [
                ("dropout", nn.Dropout(dropout)),
                ("hidden", _hidden(features, hidden)),
                ("activation", nn.ReLU()),
                ("hidden_dropout", nn.Dropout(dropout / 2)),
                ("logits", _logits(hidden, classes)),
            ]
        )
    )


def _hidden(features: int, hidden: int) -> nn.Linear:
    layer = nn.Linear(features, hidden)
    nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


def _logits(features: int, classes: int) -> nn.Linear:
    layer = nn.Linear(features, classes)
    nn.init.normal_(layer.weight, std=_INITIAL_LOGIT_SPREAD / math.sqrt(features))
    nn.init.zeros_(layer.bias)
    return layer
