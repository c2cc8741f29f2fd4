"""A head on kept features has a best solution: found by L-BFGS, instead of stepped towards.

With a linear head this is multinomial logistic regression with the recipe's own loss (class
weights, label smoothing, priors), on the unaugmented view of every training image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from espalier.train.job import Job
from espalier.train.session import Session
from espalier.train.state import State
from espalier.train.vitals import total_norm

ITERATIONS = 200
HISTORY = 10
# Of loss and weights, per iteration. At 1e-7 it stops where biases are still 0.01 off.
CHANGE_TOLERANCE = 1e-9


def solve_epoch(job: Job, session: Session, state: State) -> None:
    """Put the best head into the model; counts into ``state`` as an epoch of one step."""
    batches = list(session.train(state.stage_epoch).in_order())
    features = torch.cat([batch.images for batch in batches]).float().to(job.fabric.device)
    labels = torch.cat([batch.labels for batch in batches]).to(job.fabric.device)
    job.model.head.eval()
    losses = minimise(job.model.head, session.loss, features, labels, session.stage.penalty)
    count_epoch(state, job.model.head, losses, features, labels)


def minimise(
    head: nn.Module, loss: nn.Module, features: Tensor, labels: Tensor, penalty: float
) -> list[float]:
    """Move the head to the minimum; the objective at each evaluation.

    Args:
        head: Logits [N, K] of features [N, F].
        loss: Loss of each image [N].
        features: fp32 [N, F].
        labels: int64 [N].
        penalty: Half of it times the squared weights is added to the mean loss; biases are free.
    """
    learning = [parameter for parameter in head.parameters() if parameter.requires_grad]
    weights = [parameter for parameter in learning if parameter.ndim > 1]
    optimizer = torch.optim.LBFGS(
        learning,
        max_iter=ITERATIONS,
        history_size=HISTORY,
        tolerance_change=CHANGE_TOLERANCE,
        line_search_fn="strong_wolfe",
    )
    seen: list[float] = []

    def objective() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        value: Tensor = loss(head(features), labels).mean()
        for weight in weights:
            value = value + 0.5 * penalty * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        seen.append(float(value.detach()))
        return value

    optimizer.step(objective)  # type: ignore[no-untyped-call]
    return seen


@torch.no_grad()
def count_epoch(
    state: State, head: nn.Module, losses: list[float], features: Tensor, labels: Tensor
) -> None:
    """Count the solution as one epoch of one step."""
    totals = state.totals
    right = (head(features).argmax(dim=1) == labels).sum()
    totals.images = len(labels)
    totals.loss, totals.correct = losses[-1] * len(labels), right
    totals.grad_norms.append(total_norm([p.grad for p in head.parameters()]))
    totals.batches = state.batch = 1
    for parameter in head.parameters():
        parameter.grad = None
    state.step += 1
    state.stage_step += 1
