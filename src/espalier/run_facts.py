"""What was decided and seen of a training run beside its epochs: facts for the rules of diagnosis.

None stands for what is not on record. Rates and shares are in [0, 1], losses are nats per image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class StageFacts:
    """What a stage was meant to do, and what its optimizer really holds.

    Attributes:
        name: Of the stage.
        epochs: Planned; None where unknown.
        learning_rate: Peak rate of the head (or of all), as planned.
        backbone_learning_rate: Peak rate of the backbone; 0 where it is frozen on purpose.
        schedule: Name of the schedule.
        warmup_epochs: Epochs of rising rate.
        meant_to_train: Part names that the recipe says learn; None where nobody said.
        parts: Part name -> its number of parameters (elements).
        trainable: Part name -> how many of them require gradients.
        optimized: Part name -> how many of them the optimizer holds.
        moving_batch_norm: Frozen BatchNorm layers that are in training mode.
        resting_batch_norm: Trainable BatchNorm layers that are in evaluation mode.
        solved: The head is solved for and not stepped.
        patience: Of early stopping in this stage, in epochs; 0: off.
        batch_norm: Which mode BatchNorm is meant to be in: ``thawed``, ``train`` or ``eval``.
    """

    name: str
    epochs: int | None = None
    learning_rate: float | None = None
    backbone_learning_rate: float | None = None
    schedule: str | None = None
    warmup_epochs: float | None = None
    meant_to_train: tuple[str, ...] | None = None
    parts: Mapping[str, int] = field(default_factory=dict)
    trainable: Mapping[str, int] = field(default_factory=dict)
    optimized: Mapping[str, int] = field(default_factory=dict)
    moving_batch_norm: int | None = None
    resting_batch_norm: int | None = None
    solved: bool = False
    patience: int | None = None
    batch_norm: str | None = None


@dataclass(frozen=True)
class RunFacts:
    """What was decided before training; None where the record does not say.

    Attributes:
        classes: The label mapping of training, in index order.
        val_classes: That of validation, where it is on record apart.
        head_classes: Outputs of the model.
        train_counts: Training images per class.
        val_counts: Validation images per class.
        loss: ``cross-entropy``, ``focal``, ``mse``, ``bce`` ...
        label_smoothing: Share of the target spread over all classes.
        class_weights: Factors of the loss, in class order.
        sampler: ``none``, or how an epoch draws classes.
        mixup: Alpha; 0: off.
        cutmix: Alpha; 0: off.
        dropout: Largest dropout probability in the model.
        augment: Name of the augmentation, or its text.
        optimizer: ``adamw``, ``adam``, ``sgd`` ...
        momentum: Of SGD.
        betas: Of Adam.
        eps: Of Adam.
        weight_decay: Largest of any group.
        decoupled_decay: Whether the decay is AdamW's.
        batch: Images per optimizer step (micro-batch x accumulation).
        accumulate: Micro-batches per step.
        clip_norm: Largest gradient norm; 0: no clipping.
        precision: ``fp32``, ``bf16``, ``fp16``.
        loss_scaled: Whether a scaler multiplies the loss.
        epochs: Planned, in all.
        steps_per_epoch: Optimizer steps.
        planned_rates: (step, rate of the head) as the schedule wants them, at some steps.
        patience: Of early stopping, in epochs; 0: off.
        monitor: What early stopping and the best checkpoint go by.
        kept: Which weights are kept: ``best`` or ``last``.
        kept_epoch: Epoch of the kept weights.
        pretrained: Whether the backbone started from trained weights.
        loaded_share: Share of the backbone's tensors found in the weights file.
        ema_decay: Of the averaged weights; 0: none.
        chance_loss: What a model that knows nothing loses, with this loss and these labels.
        prior_loss: What one loses that knows only how frequent the classes are.
        floor_loss: What a perfect one loses (label smoothing, mixup).
        input_mean: Per channel, what normalisation subtracts, for values in [0, 1].
        input_std: Per channel, what it divides by.
        expected_mean: Per channel, what the weights were trained with.
        expected_std: Per channel, what the weights were trained with.
        train_transform: The training transform as text.
        val_transform: The validation transform as text.
        imgsz: Pixels of training images.
        val_imgsz: Pixels of validation images.
        activations: Kinds of activation in the model, in lower case.
        batch_norms: How many BatchNorm layers the model has.
        parameters: Of the model.
        stages: In order.
        baseline_macro_f1: What a linear head on the frozen backbone scores.
        seed: Of the run.
    """

    classes: tuple[str, ...] | None = None
    val_classes: tuple[str, ...] | None = None
    head_classes: int | None = None
    train_counts: tuple[int, ...] | None = None
    val_counts: tuple[int, ...] | None = None
    loss: str | None = None
    label_smoothing: float | None = None
    class_weights: tuple[float, ...] | None = None
    sampler: str | None = None
    mixup: float | None = None
    cutmix: float | None = None
    dropout: float | None = None
    augment: str | None = None
    optimizer: str | None = None
    momentum: float | None = None
    betas: tuple[float, float] | None = None
    eps: float | None = None
    weight_decay: float | None = None
    decoupled_decay: bool | None = None
    batch: int | None = None
    accumulate: int | None = None
    clip_norm: float | None = None
    precision: str | None = None
    loss_scaled: bool | None = None
    epochs: int | None = None
    steps_per_epoch: int | None = None
    planned_rates: tuple[tuple[int, float], ...] | None = None
    patience: int | None = None
    monitor: str | None = None
    kept: Literal["best", "last"] | None = None
    kept_epoch: int | None = None
    pretrained: bool | None = None
    loaded_share: float | None = None
    ema_decay: float | None = None
    chance_loss: float | None = None
    prior_loss: float | None = None
    floor_loss: float | None = None
    input_mean: tuple[float, ...] | None = None
    input_std: tuple[float, ...] | None = None
    expected_mean: tuple[float, ...] | None = None
    expected_std: tuple[float, ...] | None = None
    train_transform: str | None = None
    val_transform: str | None = None
    imgsz: int | None = None
    val_imgsz: int | None = None
    activations: tuple[str, ...] | None = None
    batch_norms: int | None = None
    parameters: int | None = None
    stages: tuple[StageFacts, ...] = ()
    baseline_macro_f1: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class SplitPixels:
    """What up to 256 images of one split are, after their transform: what the network is given.

    Attributes:
        images: How many were looked at.
        mean: Per channel.
        std: Per channel.
        low: Smallest value.
        high: Largest value.
        non_finite: Images with a value that is NaN or infinite.
        constant: Images of one single colour.
        raw_mean: Per channel, of the pixels before normalisation, in [0, 1]; None where unknown.
        raw_std: The same for the standard deviation.
        redraw_change: Mean absolute difference between two draws of the transform of the same
            images, in units of the standard deviation; 0 for a transform without chance.
        size: Height and width.
    """

    images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: float
    high: float
    non_finite: int = 0
    constant: int = 0
    raw_mean: tuple[float, ...] | None = None
    raw_std: tuple[float, ...] | None = None
    redraw_change: float | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class DataFacts:
    """What was seen of the data when training began; None where nobody looked.

    Attributes:
        train: Pixels of training images, as training draws them.
        val: Pixels of validation images.
        overlap: Validation images that are also training images, byte for byte.
        near_overlap: Validation images that a training image nearly equals.
        val_images: Of how many.
        train_copies: Training images that are copies of another training image.
        train_images: Of how many.
    """

    train: SplitPixels | None = None
    val: SplitPixels | None = None
    overlap: int | None = None
    near_overlap: int | None = None
    val_images: int | None = None
    train_copies: int | None = None
    train_images: int | None = None


@dataclass(frozen=True)
class HeadTrial:
    """What a linear head calls training images that it has not seen (cross-validation).

    Attributes:
        called: Its confusion matrix as (label, what it is called, images), by label; entries
            without images are left out.
    """

    called: tuple[tuple[int, int, int], ...]

    @property
    def images(self) -> dict[int, int]:
        """Label -> images of it."""
        found: dict[int, int] = {}
        for label, _, count in self.called:
            found[label] = found.get(label, 0) + count
        return found

    @property
    def recalls(self) -> dict[int, float]:
        """Label -> share of its images that are called right."""
        right = {label: count for label, name, count in self.called if label == name}
        return {label: right.get(label, 0) / count for label, count in self.images.items()}

    @property
    def recall(self) -> float:
        """Mean over labels; NaN of none."""
        recalls = self.recalls.values()
        return sum(recalls) / len(recalls) if recalls else math.nan

    @property
    def chance(self) -> float:
        """Mean recall of naming classes at random, or always the same one."""
        return 1 / len(self.images) if self.called else math.nan

    @property
    def noise(self) -> float:
        """Standard error of the mean recall; never 0."""
        images, recalls = self.images, self.recalls
        variances = []
        for label, count in images.items():
            share = min(max(recalls[label], 0.5 / count), 1 - 0.5 / count)
            variances.append(share * (1 - share) / count)
        return math.sqrt(sum(variances)) / len(variances) if variances else math.nan


@dataclass(frozen=True)
class Preflight:
    """What was tried before or after training with the model and data at hand; None: not tried.

    Attributes:
        initial_loss: Plain cross-entropy of the untrained model.
        zero_input_loss: The trained model's validation loss when it is given no picture.
        overfit_accuracy: On one batch of 16, after 60 steps on it alone.
        overfit_loss: The same as plain cross-entropy.
        best_rate: Steepest rate of a rising-rate trial.
        diverging_rate: Rate at which that trial diverged.
        probe_accuracy: Of a linear head on frozen features, cross-validated, in [0, 1].
        probe_chance: What guessing by frequency would give there.
        repeat_change: Largest change of a logit between two validations of the same weights.
        matched_accuracy: Validation accuracy after the best renaming of classes (Hungarian).
        matched_classes: Validation label -> the class that it seems to be, where renamed.
        train_mode_accuracy: Validation accuracy with the network in training mode.
        output_sums_to_one: Whether the outputs of the model are probabilities already.
        given_sum_to_one: Whether what a loop gave as outputs of validation are probabilities.
        head: A linear head on the network as it began, on training images without augmentation.
        drawn_head: The same on images as training draws them.
    """

    initial_loss: float | None = None
    zero_input_loss: float | None = None
    overfit_accuracy: float | None = None
    overfit_loss: float | None = None
    best_rate: float | None = None
    diverging_rate: float | None = None
    probe_accuracy: float | None = None
    probe_chance: float | None = None
    repeat_change: float | None = None
    matched_accuracy: float | None = None
    matched_classes: Mapping[str, str] | None = None
    train_mode_accuracy: float | None = None
    output_sums_to_one: bool | None = None
    given_sum_to_one: bool | None = None
    head: HeadTrial | None = None
    drawn_head: HeadTrial | None = None
