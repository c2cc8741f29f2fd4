"""``small-cnn``: a small convolutional network that is trained from scratch."""

from __future__ import annotations

from torch import Tensor, nn

SMALL_CNN = "small-cnn"
SMALL_CNN_IMGSZ = 128
_WIDTHS = (32, 64, 128, 256, 256)


class SmallCNN(nn.Module):
    """Five blocks of 3 x 3 convolution, BatchNorm and ReLU, halving between them; 0.98 M weights.

    ``forward`` takes images [B, 3, H, W] with H and W of at least 32, and returns the mean over
    the last map, [B, 256].
    """

    num_features = _WIDTHS[-1]

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *_WIDTHS[:-1])
        last = len(_WIDTHS) - 1
        self.blocks = nn.Sequential(
            *(
                _conv_block(before, after, halve=index < last)
                for index, (before, after) in enumerate(zip(inputs, _WIDTHS, strict=True))
            )
        )
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features [B, 256]."""
        features: Tensor = self.pool(self.blocks(images)).flatten(1)
        return features


def _conv_block(inputs: int, outputs: int, *, halve: bool) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    layers: list[nn.Module] = [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    if halve:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)
