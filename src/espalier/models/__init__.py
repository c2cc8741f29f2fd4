"""Networks: a timm backbone with a head of ours, its weights, its stages, its checkpoints."""
