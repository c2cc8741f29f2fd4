"""What an audit knows of a data set: the subject of its rules, gathered before they are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from espalier.records import Catalog, Sample
from espalier.rules import CannotJudge

WRONG_LABELS = "label_suspects"
"""The rule that estimates how many labels are wrong."""
AT_LEAST = "lower bound of it"
"""Its evidence of how many there are at least, as a share: what a diagnosis goes by."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the pixels and the header of one readable file say.

    Attributes:
        form: What the bytes say the file is, as Pillow names it: ``JPEG``, ``PNG`` ...
        orientation: EXIF orientation, 1 to 8; 1 where there is none.
        brightness: Mean luma, in [0, 1].
        contrast: Standard deviation of luma, in [0, 0.5].
        sharpness: Standard deviation of the Laplacian of luma, smoothed by 1/128 of the short side,
            at 128 pixels of the short side (fewer where the picture is smaller), divided by
            ``contrast``; about 0.02 when blurred.
        colour: Mean distance of the pixels from gray, in [0, 1]; 0 for a gray picture.
    """

    form: str
    orientation: int
    brightness: float
    contrast: float
    sharpness: float
    colour: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images that show the same picture.

    Attributes:
        first: ``sample_id``.
        second: ``sample_id``.
        kind: ``exact``: equal bytes; ``near``: the same photograph, changed (size, crop, flip,
            compression, light); ``series``: another photograph of the same thing.
        similarity: In [0, 1]; 1 for equal bytes.
        how: What told, in a few words: ``equal bytes``, ``mirrored``, ``crop of 81 %``.
    """

    first: str
    second: str
    kind: Literal["exact", "near", "series"]
    similarity: float
    how: str


@dataclass(frozen=True)
class Embedded:
    """Features of the images from a frozen backbone, and what a linear head makes of them.

    Attributes:
        model: Whose features.
        sample_ids: Length N.
        features: Pooled features [N, F], float32.
        labels: Class indices [N], int64.
        probabilities: Of the classes [N, K], each image judged by a linear head that has not seen
            it, nor an image of its group or an exact copy; None where there are too few images.
        judged: Which rows of ``probabilities`` can be used [N].
    """

    model: str
    sample_ids: tuple[str, ...]
    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64] | None
    judged: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Audited:
    """A data set as an audit sees it; the subject of audit rules.

    Attributes:
        catalog: All images found, readable or not, split as training would split them.
        given_split: Whether the split is the user's own, and not made by us.
        looks: ``sample_id`` -> what pixels and header say, of the readable images.
        pairs: Images that show the same picture; None where it was not looked for.
        embedded: Features and cross-validated probabilities; None where there are none.
        unknown: What is missing and why, by name of the field: ``embedded`` -> reason.
        imgsz: Pixels across at which the images will be trained on.
    """

    catalog: Catalog
    given_split: bool = False
    looks: Mapping[str, Look] = field(default_factory=dict)
    pairs: tuple[Pair, ...] | None = None
    embedded: Embedded | None = None
    unknown: Mapping[str, str] = field(default_factory=dict)
    imgsz: int = 224

    @cached_property
    def samples(self) -> Mapping[str, Sample]:
        """``sample_id`` -> sample, of all images."""
        return {sample.sample_id: sample for sample in self.catalog.samples}

    @cached_property
    def readable(self) -> tuple[Sample, ...]:
        """All images that decode, in catalog order."""
        return tuple(sample for sample in self.catalog.samples if sample.status == "ok")

    def require_pairs(self) -> tuple[Pair, ...]:
        """The pairs, or ``CannotJudge`` with the reason why nobody looked for them."""
        if self.pairs is None:
            raise CannotJudge(self.unknown.get("pairs", "copies were not looked for"))
        return self.pairs

    def require_embedded(self) -> Embedded:
        """The features, or ``CannotJudge`` with the reason why there are none."""
        if self.embedded is None:
            raise CannotJudge(self.unknown.get("embedded", "there are no features of the images"))
        return self.embedded

    def require_probabilities(self) -> tuple[Embedded, npt.NDArray[np.float64]]:
        """Features and probabilities, or ``CannotJudge``."""
        embedded = self.require_embedded()
        if embedded.probabilities is None:
            raise CannotJudge("too few images to judge each by a head that has not seen it")
        return embedded, embedded.probabilities
