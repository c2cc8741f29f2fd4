"""Spellings that people have in their configuration files, and the keys they mean here.

Only data and two small functions: a table is easier to read, to check and to extend than code.
What a file spelled differently is kept in the recipe's ``why``.
"""

from __future__ import annotations

import re

SECTIONS: dict[str, str] = {
    "augmentation": "augment",
    "augmentations": "augment",
    "checkpoint": "checkpointing",
    "checkpoints": "checkpointing",
    "class_balance": "class_weighting",
    "class_weights": "class_weighting",
    "criterion": "loss",
    "dataset": "data",
    "early_stop": "early_stopping",
    "earlystopping": "early_stopping",
    "log": "logging",
    "loss_function": "loss",
    "lr_scheduler": "schedule",
    "optim": "optimizer",
    "optimiser": "optimizer",
    "output": "logging",
    "scheduler": "schedule",
    "train": "training",
}
"""Section as spelled -> section here."""

_TRAINING = {
    "accumulation_steps": "training.accumulate",
    "accumulate_grad_batches": "training.accumulate",
    "alpha": "loss.focal_alpha",
    "augmentation": "augment.policy",
    "batch_size": "training.batch",
    "betas": "optimizer.betas",
    "clip_grad_norm": "optimizer.clip_norm",
    "clip_norm": "optimizer.clip_norm",
    "cutmix": "augment.cutmix",
    "cutmix_alpha": "augment.cutmix",
    "dropout": "model.dropout",
    "early_stopping_patience": "early_stopping.patience",
    "epochs": "epochs",
    "eta_min": "schedule.min_lr",
    "focal_alpha": "loss.focal_alpha",
    "focal_gamma": "loss.focal_gamma",
    "grad_clip": "optimizer.clip_norm",
    "gradient_accumulation_steps": "training.accumulate",
    "gradient_clip": "optimizer.clip_norm",
    "gradient_clip_norm": "optimizer.clip_norm",
    "gradient_clipping": "optimizer.clip_norm",
    "image_size": "training.imgsz",
    "img_size": "training.imgsz",
    "input_size": "training.imgsz",
    "label_smoothing": "loss.label_smoothing",
    "learning_rate": "lr",
    "loss": "loss.name",
    "loss_function": "loss.name",
    "lr": "lr",
    "lr_schedule": "schedule.name",
    "lr_scheduler": "schedule.name",
    "max_batches_per_epoch": "training.max_batches",
    "max_epochs": "epochs",
    "max_grad_norm": "optimizer.clip_norm",
    "min_lr": "schedule.min_lr",
    "mixup": "augment.mixup",
    "mixup_alpha": "augment.mixup",
    "momentum": "optimizer.momentum",
    "n_epochs": "epochs",
    "num_epochs": "epochs",
    "num_workers": "data.workers",
    "optimizer": "optimizer.name",
    "patience": "early_stopping.patience",
    "random_seed": "training.seed",
    "schedule": "schedule.name",
    "scheduler": "schedule.name",
    "time": "training.time_limit",
    "warmup_epochs": "schedule.warmup_epochs",
    "weight_decay": "optimizer.weight_decay",
    "workers": "data.workers",
}

KEYS: dict[str, dict[str, str]] = {
    "training": _TRAINING,
    "model": {
        "arch": "model.name",
        "architecture": "model.name",
        "backbone": "model.name",
        "drop_path_rate": "model.drop_path",
        "dropout_rate": "model.dropout",
        "hidden_dim": "model.hidden",
        "hidden_size": "model.hidden",
        "image_size": "training.imgsz",
        "img_size": "training.imgsz",
        "input_size": "training.imgsz",
        "model_name": "model.name",
        "n_classes": "data.num_classes",
        "num_classes": "data.num_classes",
        "type": "model.name",
    },
    "data": {
        "batch_size": "training.batch",
        "class_names": "data.classes",
        "data_dir": "data.source",
        "data_path": "data.source",
        "dataset_path": "data.source",
        "dir": "data.source",
        "folder": "data.source",
        "image_size": "training.imgsz",
        "img_size": "training.imgsz",
        "input_size": "training.imgsz",
        "num_workers": "data.workers",
        "path": "data.source",
        "root_dir": "data.source",
        "seed": "training.seed",
        "test_ratio": "data.test_share",
        "test_size": "data.test_share",
        "test_split": "data.test_share",
        "val_ratio": "data.val_share",
        "val_size": "data.val_share",
        "val_split": "data.val_share",
        "validation_split": "data.val_share",
    },
    "augment": {"cutmix_alpha": "augment.cutmix", "mixup_alpha": "augment.mixup"}
    | dict.fromkeys(("level", "name", "strength", "type"), "augment.policy"),
    "optimizer": {
        "clip_grad_norm": "optimizer.clip_norm",
        "learning_rate": "lr",
        "lr": "lr",
        "max_grad_norm": "optimizer.clip_norm",
        "type": "optimizer.name",
    },
    "schedule": {
        "eta_min": "schedule.min_lr",
        "factor": "schedule.gamma",
        "patience": "schedule.plateau_patience",
        "step_size": "schedule.step_epochs",
        "type": "schedule.name",
    },
    "loss": {
        "alpha": "loss.focal_alpha",
        "gamma": "loss.focal_gamma",
        "smoothing": "loss.label_smoothing",
        "type": "loss.name",
    },
    "class_weighting": dict.fromkeys(("method", "mode", "name", "type"), "class_weighting.strategy")
    | {"max_ratio": "class_weighting.cap"},
    "early_stopping": {"delta": "early_stopping.min_delta", "metric": "early_stopping.monitor"},
    "checkpointing": {
        "checkpoint_dir": "logging.out",
        "dir": "logging.out",
        "metric": "checkpointing.monitor",
        "output_dir": "logging.out",
        "save_dir": "logging.out",
    },
    "logging": {
        "experiment_name": "logging.name",
        "log_dir": "logging.out",
        "output_dir": "logging.out",
        "run_name": "logging.name",
        "save_dir": "logging.out",
        "use_tensorboard": "logging.tensorboard",
    },
}
"""Section -> key as spelled in it -> key here (``epochs`` and ``lr`` go to the stages)."""

STAGE_KEYS: dict[str, str] = {
    "backbone_learning_rate": "backbone_lr",
    "image_size": "imgsz",
    "learning_rate": "lr",
    "num_epochs": "epochs",
}
"""Key as spelled in a stage -> key here."""

WHOLE: dict[str, str] = {
    "augment": "augment.policy",
    "class_weighting": "class_weighting.strategy",
    "data": "data.source",
    "early_stopping": "early_stopping.patience",
    "loss": "loss.name",
    "model": "model.name",
    "optimizer": "optimizer.name",
    "schedule": "schedule.name",
}
"""Section given as a single value -> the key that value belongs to."""

_MONITORS = {
    "macro_f1": ("f1", "val_f1", "f1_macro", "val_f1_macro", "val_macro_f1", "f1_score"),
    "accuracy": ("acc", "val_acc", "val_accuracy", "top1"),
    "loss": ("val_loss", "validation_loss"),
}

_VALUES: dict[str, dict[str, tuple[str, ...]]] = {
    "model.name": {
        "efficientnet_b0": ("efficientnetb0", "efficientnet-b0"),
        "mobilenetv2_100": ("mobilenetv2", "mobilenet_v2"),
        "mobilenetv3_large_100": ("mobilenet_v3_large", "mobilenetv3_large"),
        "mobilenetv3_small_100": ("mobilenet_v3_small", "mobilenetv3_small", "mobilenetv3"),
        "resnet50": ("resnet50", "resnet_50"),
        "small-cnn": ("small_cnn", "simple_cnn", "custom_cnn"),
    },
    "class_weighting.strategy": {
        "effective-number": ("effective_num", "effective_number_of_samples"),
        "inverse": ("inverse_frequency", "balanced", "inv_freq"),
        "sqrt": ("square_root", "sqrt_inverse", "inverse_sqrt", "sqrt_inverse_frequency"),
    },
    "early_stopping.monitor": _MONITORS,
    "checkpointing.monitor": _MONITORS,
    "loss.name": {
        "cross-entropy": ("ce", "crossentropyloss", "categorical_crossentropy"),
        "focal": ("focal_loss",),
    },
    "schedule.name": {
        "cosine": ("cosine_annealing", "cosineannealinglr"),
        "one-cycle": ("onecyclelr",),
        "plateau": ("reducelronplateau", "reduce_on_plateau"),
        "step": ("steplr",),
        "warmup-cosine": ("cosine_warmup", "cosine_with_warmup"),
    },
    "training.precision": {
        "bf16": ("bfloat16", "bf16-mixed"),
        "fp16": ("float16", "half", "16", "16-mixed"),
        "fp32": ("float32", "full", "32"),
    },
    "training.device": {"cuda": ("gpu",)},
    "model.weights": {"none": ("none", "scratch"), "pretrained": ("imagenet", "pretrained")},
}

VALUES: dict[str, dict[str, str]] = {
    key: {
        re.sub(r"[^a-z0-9]", "", spelled): ours for ours, many in table.items() for spelled in many
    }
    for key, table in _VALUES.items()
}
"""Key -> value as spelled, letters and digits only -> value here."""


def snake(name: str) -> str:
    """``Class Weighting``, ``classWeighting`` and ``class-weighting`` as ``class_weighting``."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\s\-]+", "_", apart).lower()


def plain(text: str) -> str:
    """Letters and digits of a word, in lower case."""
    return re.sub(r"[^a-z0-9]", "", text.lower())
