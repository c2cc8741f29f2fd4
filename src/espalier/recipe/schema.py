"""The recipe: everything that is decided before the first batch, as one frozen record.

Values that the machine or the data decide are ``"auto"`` (or None where a number is meant) until
``resolve`` replaces each by a value and a reason. No code below this package has a default of its
own: it reads the recipe.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Schedule = Literal["warmup-cosine", "cosine", "step", "one-cycle", "constant", "plateau"]
Fit = Literal["crop", "pad", "squash"]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Pixels = Annotated[int, Field(ge=8, le=4096)]
Count = Annotated[int, Field(ge=1)]
Keep = Literal["auto", "memory", "disk", "off"]


class Section(BaseModel):
    """A part of the recipe: frozen, unknown keys forbidden, no silent conversions of type."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )


class Model(Section):
    """The network: a timm backbone (or ``small-cnn``) with a head of ours."""

    name: str = Field("auto", description="any timm model, `small-cnn`, or `auto` by machine")
    weights: str = Field(
        "pretrained", description="`pretrained` (timm's), a .safetensors/.pth file, or `none`"
    )
    head: Literal["mlp", "linear"] = Field(
        "mlp", description="`mlp`: Dropout, Linear, activation, Dropout, Linear"
    )
    hidden: Count = Field(512, description="width of the mlp head")
    dropout: Share = Field(0.3, description="before the first layer of the head; half of it later")
    drop_path: Share = Field(0.0, description="stochastic depth, where the backbone has it")


class Data(Section):
    """How photographs become a catalog, a split and arrays."""

    source: str | None = Field(None, description="folder, manifest, or torchvision:NAME")
    root: str | None = Field(None, description="where torchvision keeps or puts its files")
    classes: tuple[str, ...] | None = Field(
        None, description="the label mapping, in index order; None: as found, sorted"
    )
    num_classes: Count | None = Field(
        None, description="how many classes the data must have; None: as found"
    )
    val_share: Share = Field(0.1, description="share of the images for validation, if none given")
    test_share: Share = Field(0.1, description="share of the images for the test, if none given")
    group_by: str | None = Field(
        None, description="regular expression on the path; images with equal match stay together"
    )
    split_from: str | None = Field(None, description="an earlier run whose split is used again")
    corrections: str | None = Field(
        None, description="table of accepted corrections, as `espalier audit` writes it"
    )
    synthetic: str | None = Field(
        None, description="synthetic.csv of `espalier synth`; its pictures train and do not judge"
    )
    fit: Fit = Field("crop", description="how a photograph meets the square input")
    crop_share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of the short side kept by `crop` in validation and prediction"
    )
    mean: tuple[float, float, float] | None = Field(None, description="None: the model's own")
    std: tuple[float, float, float] | None = Field(None, description="None: the model's own")
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="threads that decode and augment; 0: in the training thread"
    )
    store: Keep = Field(
        "auto", description="decoded photographs, kept to be read again: auto, memory, disk or off"
    )
    store_gib: Positive = Field(20.0, description="most that the store may take")


class Augment(Section):
    """What is done to training images; validation never sees any of it."""

    policy: str = Field(
        "standard",
        description="none, light, standard, strong, heavy, e8, randaugment or trivialaugment",
    )
    steps: dict[str, dict[str, float]] | None = Field(
        None, description="changes to the policy: step -> parameter -> value; resolved to all"
    )
    mixup: Annotated[float, Field(ge=0)] = Field(0.0, description="alpha; 0: off")
    cutmix: Annotated[float, Field(ge=0)] = Field(0.0, description="alpha; 0: off")


class Stage(Section):
    """One stretch of training: what learns, how fast, how long."""

    name: str = Field(
        pattern=r"^[^.\s]*[^.\s\d][^.\s]*$", description="of the stage; no dots, no spaces"
    )
    train: Literal["head", "top", "all"] | Annotated[float, Field(gt=0, le=1)] | tuple[str, ...] = (
        Field("all", description="head, top, all, the last share of the blocks, or module names")
    )
    epochs: Count = Field(description="passes over the training images")
    lr: Positive = Field(description="peak rate of the head")
    backbone_lr: Positive | None = Field(None, description="peak rate of the backbone; None: lr")
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="rate of each block = this x the rate of the block above it"
    )
    imgsz: Pixels | None = Field(None, description="pixels in this stage; None: training.imgsz")
    imgsz_from: Pixels | None = Field(
        None, description="pixels in its first epoch, rising to imgsz in the last; None: imgsz"
    )
    solve: bool = Field(
        False, description="the head is solved for (L-BFGS) on unaugmented views, in one epoch"
    )
    penalty: Annotated[float, Field(ge=0)] = Field(
        0.03, description="`solve`: half of it x the squared weights is added to the loss"
    )
    warmup_epochs: Annotated[float, Field(ge=0)] | None = Field(
        None, description="None: schedule.warmup_epochs"
    )
    schedule: Schedule | None = Field(None, description="None: schedule.name")
    patience: Count | None = Field(None, description="None: early_stopping.patience")
    batch_norm: Literal["auto", "thawed", "train", "eval"] = Field(
        "auto", description="auto is thawed: train where trainable, eval where frozen"
    )


class Training(Section):
    """The run as a whole."""

    batch: Count | Literal["auto"] = Field(32, description="images per micro-batch")
    accumulate: Count = Field(1, description="micro-batches per optimizer step")
    imgsz: Pixels | Literal["auto"] = Field("auto", description="pixels across and down")
    test_imgsz: Pixels | None = Field(
        None, description="pixels in validation and prediction; None: those of the stage"
    )
    max_batches: Count | None = Field(None, description="at most so many micro-batches an epoch")
    time_limit: Positive | None = Field(None, description="seconds; training ends in good order")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="the same seed, the same result")
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:1, mps"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="of the arithmetic; auto on a CPU: measured for this model"
    )
    channels_last: bool | Literal["auto"] = Field(
        "auto", description="memory layout of images and weights"
    )
    grouped_fp32: bool | Literal["auto"] = Field(
        "auto", description="under bf16 on a CPU, grouped convolutions compute in fp32"
    )
    threads: Count | Literal["auto"] = Field("auto", description="CPU threads of the arithmetic")


class Features(Section):
    """What frozen layers give is kept, so that they run once and not in every epoch."""

    keep: Keep = Field(
        "auto", description="features of frozen layers: auto, memory, disk, or off (run them live)"
    )
    views: Count | Literal["auto"] = Field(
        "auto", description="augmented views kept of each image; epochs take them in turn"
    )
    stored: Literal["bf16", "fp32"] = Field("bf16", description="number format of what is kept")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of the arithmetic in frozen layers; auto on a CPU: measured"
    )
    budget_gib: Positive = Field(4.0, description="most that kept features may take")
    engine: Literal["auto", "eager", "openvino"] = Field(
        "auto", description="what runs the frozen layers; openvino needs espalier[openvino]"
    )
    baseline: bool = Field(
        True, description="before training, a linear head on the frozen backbone, cross-validated"
    )


class Adjustment(Section):
    """What is done for rare classes after training, where validation says that it helps."""

    method: Literal["auto", "none", "logit-adjustment", "class-bias", "head-refit"] = Field(
        "auto", description="auto: each is tried, a name: that alone; taken where validation gains"
    )


class Optimizer(Section):
    """How gradients become steps. Norms and biases are never decayed."""

    name: Literal["adamw", "adam", "sgd"] = Field("adamw", description="the update rule")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        1e-4, description="pull of the weights towards zero, per step x rate"
    )
    betas: tuple[Share, Share] = Field((0.9, 0.999), description="`adamw`, `adam`: memory")
    momentum: Share = Field(0.9, description="`sgd`: memory")
    clip_norm: Positive | None = Field(1.0, description="largest gradient norm; null: off")


class ScheduleSection(Section):
    """The learning rate over the steps of a stage, as a factor of its peak."""

    name: Schedule = Field("warmup-cosine", description="shape of the rate over a stage")
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(
        0.0, description="epochs of linear rise before the schedule begins, in each stage"
    )
    warmup_start: Annotated[float, Field(ge=0, le=1)] = Field(0.02, description="x peak rate")
    min_lr: Annotated[float, Field(ge=0)] = Field(1e-7, description="of every group, at the end")
    step_epochs: Count = Field(5, description="`step`: epochs between drops")
    gamma: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="`step`, `plateau`: factor")
    plateau_patience: Count = Field(3, description="`plateau`: epochs without gain before a drop")


class Loss(Section):
    """What is minimised."""

    name: Literal["cross-entropy", "focal", "balanced-softmax", "logit-adjusted"] = Field(
        "cross-entropy", description="computed per sample"
    )
    label_smoothing: Share = Field(0.1, description="share of the target spread over all classes")
    focal_alpha: Positive = Field(1.0, description="`focal`: factor")
    focal_gamma: Annotated[float, Field(ge=0)] = Field(
        2.0, description="`focal`: how much easy images count less"
    )
    tau: Annotated[float, Field(ge=0)] = Field(1.0, description="`logit-adjusted`: strength")


class ClassWeighting(Section):
    """How rare classes are helped."""

    strategy: Literal["none", "inverse", "sqrt", "effective-number"] = Field(
        "none", description="how the loss weighs classes by their number of images"
    )
    cap: Annotated[float, Field(ge=1)] | None = Field(
        None, description="largest ratio between two class weights; null: off"
    )
    beta: Annotated[float, Field(gt=0, lt=1)] = Field(0.999, description="`effective-number`")
    sampler: Literal["none", "balanced", "sqrt"] = Field(
        "none", description="how often an epoch draws each class"
    )


class EarlyStopping(Section):
    """When to stop a stage before its last epoch."""

    patience: Count | None = Field(5, description="epochs without gain; null: never stop early")
    min_delta: Annotated[float, Field(ge=0)] = Field(0.0, description="what counts as a gain")
    monitor: Literal["macro_f1", "accuracy", "loss"] = Field(
        "macro_f1", description="the validation figure that must gain"
    )


class Checkpointing(Section):
    """What is kept of the weights."""

    monitor: Literal["macro_f1", "accuracy", "loss"] = Field(
        "macro_f1", description="the validation figure that says which epoch is best"
    )
    save_best: bool = Field(True, description="keep the weights of the best epoch")
    save_last: bool = Field(True, description="keep what is needed to resume")


class Logging(Section):
    """What is written while it trains, beside what is always written."""

    curves: bool = Field(
        True, description="redraw curves.png after every epoch; of short epochs, now and then"
    )
    step_every: Count = Field(10, description="optimizer steps between rows of steps.jsonl")
    tensorboard: bool = Field(False, description="needs espalier[logs]")
    out: str = Field("runs/train", description="folder of the runs")
    name: str = Field("run", description="name of the run; -2, -3 ... where it is taken")


class Recipe(Section):
    """Everything decided before training. Frozen; YAML and JSON; unknown keys are errors.

    ``why`` maps a dotted key (stages by name: ``stages.head.lr``) to where its value comes from:
    ``preset three-stage``, ``file mine.yaml``, ``--set loss.tau=1``, ``--epochs 10``, ``lr=1e-3``,
    or, for what was chosen, ``auto VALUE: reason``. A key without an entry has its default.
    """

    preset: str | None = Field(None, description="the preset that all else was laid over")
    model: Model = Model()
    data: Data = Data()
    augment: Augment = Augment()
    stages: tuple[Stage, ...] = Field(default=(), description="in order; at least one")
    training: Training = Training()
    features: Features = Features()
    optimizer: Optimizer = Optimizer()
    schedule: ScheduleSection = ScheduleSection()
    loss: Loss = Loss()
    class_weighting: ClassWeighting = ClassWeighting()
    early_stopping: EarlyStopping = EarlyStopping()
    adjustment: Adjustment = Adjustment()
    checkpointing: Checkpointing = Checkpointing()
    logging: Logging = Logging()
    why: dict[str, str] = Field(default_factory=dict, description="dotted key -> origin")

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"stages: names must differ, got {names}")
        if self.data.val_share + self.data.test_share >= 1:
            raise ValueError("data: val_share + test_share must leave something to train on")
        return self
