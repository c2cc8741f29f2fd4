"""Whether painted dirt teaches what real dirt looks like: ``python -m benchmarks.synthetic``.

A linear classifier on frozen features is trained on real clean dishes with real dirty ones, with
painted ones, or with both, and tested on *real* photographs of both classes. Cross-fitted: a clean
photograph that is tested has neither been trained on nor painted on in that fold. The same is
repeated with other folds and other paint. Intervals are bootstrapped over the photographs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import timm
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.measure import circumstances, load_average, short
from espalier.data.images import Pixels, content_hash, read_bytes, read_image
from espalier.files import write_text
from espalier.synth import painters
from espalier.synth.folder import painted
from espalier.synth.plan import INTENSITIES, Original, variants

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared"
DISHES = SHARED / "datasets" / "dishes2" / "originals"
WEIGHTS = SHARED / "weights" / "mobilenetv2_100.timm.safetensors"
SHARES = {"light": 0.3, "medium": 0.5, "heavy": 0.2}
FOLDS = 5
DRAWS = 2000
# The regularisation was set once, before any painted picture was seen by a classifier.
REGULARISATION = 0.01

Features = npt.NDArray[np.float32]


def main() -> None:
    options = parse()
    record = measure(options)
    write_text(options.out / "synthetic.json", json.dumps(record, indent=1) + "\n")
    for name, found in record["results"]["cases"].items():
        sys.stdout.write(line(name, found) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.synthetic", description=__doc__)
    parser.add_argument("--data", type=Path, default=DISHES, help="folder with cleaned/ and dirty/")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--sides", type=int, nargs="+", default=[160, 224])
    parser.add_argument("--seeds", type=int, default=6, help="repeats with other folds and paint")
    parser.add_argument("--paints", type=int, default=3, help="different sets of paint")
    parser.add_argument("--variations", type=int, default=4)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    before, began, cpu = load_average(), time.perf_counter(), time.process_time()
    clean, dirty = (read_all(options.data / name) for name in ("cleaned", "dirty"))
    paint = [paint_all(clean, seed, options.variations) for seed in range(options.paints)]
    painting = time.process_time() - cpu
    crude = [paint_crudely(clean, seed, options.variations) for seed in range(options.paints)]
    cases: dict[str, Any] = {}
    for side in options.sides:
        cases |= compare(options, side, clean, dirty, {"painted": paint, "crude": crude})
    return {
        "format": 1,
        "part": "synthetic",
        "command": " ".join(["python -m benchmarks.synthetic", *sys.argv[1:]]),
        **circumstances(),
        "load_average": {"before": before, "after": load_average()},
        "took_seconds": round(time.perf_counter() - began),
        "cpu_seconds": round(time.process_time() - cpu),
        "settings": {
            "data": "dishes2/originals",
            "photographs": {"clean": len(clean), "dirty": len(dirty)},
            "model": "mobilenetv2_100, frozen, pooled features",
            "weights": options.weights.name,
            "classifier": f"logistic regression, C={REGULARISATION}, balanced, standardised",
            "folds": FOLDS,
            "seeds": options.seeds,
            "variations": options.variations,
            "shares": SHARES,
        },
        "results": {
            "cpu_ms_per_painted": short(
                1000 * painting / (options.paints * options.variations * len(clean))
            ),
            "cases": cases,
        },
    }


def read_all(folder: Path) -> list[tuple[Path, Pixels]]:
    return [(path, read_image(str(path))) for path in sorted(folder.glob("*.jpg"))]


def paint_all(
    clean: Sequence[tuple[Path, Pixels]], seed: int, variations: int
) -> list[list[Pixels]]:
    """For each clean photograph its painted ones, as ``espalier synth dirty`` makes them."""
    painter = painters.load("dirty")
    originals = [Original(path, content_hash(read_bytes(str(path)))) for path, _ in clean]
    place = {one.path: i for i, one in enumerate(originals)}
    made: list[list[Pixels]] = [[] for _ in clean]
    endless = variants(originals, painter="dirty", kinds=painter.KINDS, shares=SHARES, seed=seed)
    for variant in endless:
        if variant.number > variations:
            return made
        i = place[variant.original.path]
        picture = painted(clean[i][1], painter, variant)
        assert picture is not None, variant.original.path
        assert variant.intensity in INTENSITIES
        made[i].append(as_stored(picture))
    raise AssertionError("unreachable: the variants have no end")


def paint_crudely(
    clean: Sequence[tuple[Path, Pixels]], seed: int, variations: int
) -> list[list[Pixels]]:
    """The control: brown discs on the dish instead of dirt. Is it worth painting well?"""
    rng = np.random.default_rng(seed)
    painter = painters.load("dirty")
    made: list[list[Pixels]] = []
    for _, pixels in clean:
        inside = painter.find(pixels).mask > 0.5
        rows, columns = np.nonzero(inside)
        reach = float(np.sqrt(inside.sum() / np.pi))
        made.append([])
        for _ in range(variations):
            drawn = pixels.copy()
            for i in rng.integers(0, len(rows), int(rng.integers(3, 30))):
                size = max(1, round(reach * rng.uniform(0.01, 0.1)))
                colour = [int(value) for value in np.array([130, 80, 35]) * rng.uniform(0.5, 1.5)]
                cv2.circle(drawn, (int(columns[i]), int(rows[i])), size, colour, -1, cv2.LINE_AA)
            made[-1].append(as_stored(np.where(inside[..., None], drawn, pixels)))
    return made


def as_stored(picture: Pixels) -> Pixels:
    """Through JPEG once, as a file would be: else compression would tell the two classes apart."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
    found: Pixels = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return found


def embed(pictures: Sequence[Pixels], side: int, weights: Path) -> Features:
    """Pooled features, of each picture and of its mirror image [N, 2, F]."""
    model = timm.create_model("mobilenetv2_100", num_classes=0).eval()
    state = load_file(weights)
    model.load_state_dict({k: v for k, v in state.items() if not k.startswith("classifier")})
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    found = []
    with torch.inference_mode():
        for picture in pictures:
            small = cv2.resize(framed(picture), (side, side), interpolation=cv2.INTER_AREA)
            image = ((torch.from_numpy(small) / 255 - mean) / deviation).permute(2, 0, 1)
            found.append(model(torch.stack([image, image.flip(2)])).numpy())
    return np.stack(found)


def framed(picture: Pixels) -> Pixels:
    """The whole picture in a white square: a crop could cut the dirt away."""
    height, width = picture.shape[:2]
    square = np.full((max(height, width),) * 2 + (3,), 255, np.uint8)
    top, left = (len(square) - height) // 2, (len(square) - width) // 2
    square[top : top + height, left : left + width] = picture
    return square


def compare(
    options: argparse.Namespace,
    side: int,
    clean: Sequence[tuple[Path, Pixels]],
    dirty: Sequence[tuple[Path, Pixels]],
    paint: Mapping[str, Sequence[Sequence[Sequence[Pixels]]]],
) -> dict[str, Any]:
    """Every mix of real and painted dirt at one resolution."""
    real = embed([pixels for _, pixels in (*clean, *dirty)], side, options.weights)
    labels = np.array([0] * len(clean) + [1] * len(dirty))
    features = {
        how: [[embed(pictures, side, options.weights) for pictures in one] for one in sets]
        for how, sets in paint.items()
    }
    right = {
        (count, kind): np.array(
            [
                one_repeat(real, labels, features.get(kind), count, seed)
                for seed in range(options.seeds)
            ]
        )
        for count in (0, 2, 4, 8, 16)
        for kind in ("real only", *features)
        if count or kind in features
    }
    return {
        f"{side} px, {count} real dirty, {kind}": summary(right, count, kind, labels)
        for count, kind in right
    }


def one_repeat(
    real: Features,
    labels: npt.NDArray[Any],
    paint: Sequence[Sequence[Features]] | None,
    count: int,
    seed: int,
) -> npt.NDArray[Any]:
    """Whether each real photograph was classified rightly when it was held out [N]."""
    right = np.zeros(len(labels))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    rng = np.random.default_rng(seed)
    for train, test in folds.split(real[:, 0], labels):
        clean_ones = train[labels[train] == 0]
        # The same real dirty photographs with and without paint beside them.
        dirty_ones = rng.permutation(train[labels[train] == 1])[:count]
        parts = [real[clean_ones], real[dirty_ones]]
        targets = [0] * len(clean_ones) + [1] * len(dirty_ones)
        if paint is not None:
            mine = paint[seed % len(paint)]
            parts += [mine[i] for i in clean_ones]
            targets += [1] * sum(len(mine[i]) for i in clean_ones)
        right[test] = predict(np.concatenate(parts), targets, real[test]) == labels[test]
    return right


def predict(train: Features, targets: Sequence[int], test: Features) -> npt.NDArray[Any]:
    """Classes of the test pictures, from the mean of both views."""
    views = train.shape[1]
    model = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=2000),
    )
    model.fit(train.reshape(-1, train.shape[-1]), np.repeat(targets, views))
    scores = model.decision_function(test.reshape(-1, test.shape[-1])).reshape(-1, views)
    return (scores.mean(axis=1) > 0).astype(int)


def summary(
    right: Mapping[tuple[int, str], npt.NDArray[Any]],
    count: int,
    kind: str,
    labels: npt.NDArray[Any],
) -> dict[str, Any]:
    mine = right[count, kind]
    found: dict[str, Any] = {
        "accuracy": interval(mine.mean(axis=0), labels),
        "clean_right": short(mine[:, labels == 0].mean()),
        "dirty_right": short(mine[:, labels == 1].mean()),
        "seeds": [short(value) for value in mine.mean(axis=1)],
    }
    if kind != "real only" and count:
        change = mine.mean(axis=0) - right[count, "real only"].mean(axis=0)
        found["gain_over_real_only"] = interval(change, labels)
    return found


def interval(values: npt.NDArray[Any], labels: npt.NDArray[Any]) -> dict[str, float]:
    """Mean over the photographs with its 95 % bootstrap interval, classes kept equal."""
    rng = np.random.default_rng(0)
    parts = [np.flatnonzero(labels == name) for name in (0, 1)]
    draws = [
        float(np.mean([values[rng.choice(part, len(part))].mean() for part in parts]))
        for _ in range(DRAWS)
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"mean": short(values.mean()), "low": short(low), "high": short(high)}


def line(name: str, found: dict[str, Any]) -> str:
    score = found["accuracy"]
    text = f"{name}: {score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
    text += f"; clean {found['clean_right']:.2f}, dirty {found['dirty_right']:.2f}"
    if "gain_over_real_only" in found:
        gain = found["gain_over_real_only"]
        text += f"; gain {gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
    return text


if __name__ == "__main__":
    main()
