"""Classes with too few images to learn from, or to be judged by.

What it looks at: the images of each class in train, and in val and test.
Why it matters: from one or two images a network learns these images, not the class; and a class
    judged on three images moves macro-F1 by whole points with each of them.
When it is wrong: features of a large pretrained network can be enough for easy classes.
What to do: gather more, merge the class with one like it, leave it out, or draw variations.
Source: fault D15 and E4. One image more or less right moves the F1 of a class of n images by
    2 / (n + 1) at most, and the mean over K classes by that over K.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.audited import Audited
from espalier.findings import Case, Evidence, Finding, Severity, listed
from espalier.rules import CannotJudge, threshold

CODE = "AUD021"
Small = dict[str, int]


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    train: float = threshold(10, "training images", "of a class, at least")
    hardly: float = threshold(2, "training images", "from which nothing can be learnt, at most")
    judged: float = threshold(5, "images in val or test", "of a class, at least")
    points: float = threshold(2.0, "points of macro-F1", "by one image, from which it is a warning")


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where a class is small in train, val or test; absent classes are another rule's."""
    train = subject.catalog.counts("train")
    if not any(train.values()):
        raise CannotJudge("no image has a class and a part of the split")
    taught = _below(train, thresholds.train)
    judged = {
        split: _below(subject.catalog.counts(split), thresholds.judged) for split in ("val", "test")
    }
    known = sum(1 for n in train.values() if n)
    moves = {split: _points(small, known) for split, small in judged.items() if small}
    if not taught and not moves:
        return None
    noisy = any(points >= thresholds.points for points in moves.values())
    severity: Severity = "warning" if taught or noisy else "info"
    return Finding(
        rule="classes_too_small",
        code=CODE,
        severity=severity,
        cause="; ".join(_causes(taught, judged, moves, thresholds)),
        evidence=(
            *(
                Evidence("training images", n, thresholds.train, "", name)
                for name, n in taught.items()
            ),
            *(
                Evidence("macro-F1 by one image", round(points, 2), thresholds.points, "points", s)
                for s, points in moves.items()
            ),
        ),
        advice=_advice(taught, moves, thresholds, given=subject.given_split),
        cases=_cases(taught, judged, known),
    )


def points_of_one_image(images: int, classes: int) -> float:
    """Points by which macro-F1 moves at most when one image of a class is judged otherwise.

    The F1 of a class of n images is 2 TP / (TP + FP + n); it moves most from TP = 0 to 1, FP = 0.
    """
    return 100 * 2 / (images + 1) / classes


def _below(counts: dict[str, int], bound: float) -> Small:
    """Classes with images, but too few, the fewest first."""
    few = {name: n for name, n in counts.items() if 0 < n < bound}
    return dict(sorted(few.items(), key=lambda one: one[1]))


def _points(small: Small, classes: int) -> float:
    return points_of_one_image(min(small.values()), classes)


def _causes(
    taught: Small, judged: dict[str, Small], moves: dict[str, float], thresholds: Thresholds
) -> list[str]:
    causes = []
    if taught:
        fewest = _counted(taught)
        causes.append(f"fewer than {thresholds.train:.0f} training images of {fewest}")
    for split, points in moves.items():
        causes.append(
            f"fewer than {thresholds.judged:.0f} {split} images of {_counted(judged[split])}, "
            f"where one image moves macro-F1 by up to {points:.1f} points"
        )
    return causes


def _counted(small: Small) -> str:
    return listed([f"{name} ({n})" for name, n in small.items()])


def _advice(
    taught: Small, moves: dict[str, float], thresholds: Thresholds, *, given: bool
) -> tuple[str, ...]:
    advice = []
    hardly = [name for name, n in taught.items() if n <= thresholds.hardly]
    if hardly:
        advice.append(
            f"{listed(hardly)}: merge with a class like it, leave it out, gather more, or draw "
            "variations with `espalier synth`; one or two images teach nothing."
        )
    if len(taught) > len(hardly):
        advice.append(
            f"Gather at least {thresholds.train:.0f} training images of each class, different "
            "ones: other days, other light, other objects."
        )
    if moves:
        advice.append(
            f"Read the scores of such classes with their intervals, and put at least "
            f"{thresholds.judged:.0f} images of each class into {' and '.join(moves)}"
            + ("." if given else ": gather more, or set a larger data.val_share and test_share.")
        )
    return tuple(advice)


def _cases(taught: Small, judged: dict[str, Small], known: int) -> tuple[Case, ...]:
    texts: dict[str, list[str]] = {name: [f"train {n}"] for name, n in taught.items()}
    for split, small in judged.items():
        for name, n in small.items():
            moves = points_of_one_image(n, known)
            texts.setdefault(name, []).append(f"{split} {n} (each up to {moves:.1f} points)")
    cases = [
        Case((), ", ".join(parts), 1 / taught[name] if name in taught else 0.0, label=name)
        for name, parts in texts.items()
    ]
    return tuple(sorted(cases, key=lambda case: -case.score))
