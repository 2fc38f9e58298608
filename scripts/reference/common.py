"""Shared by the reference scripts: rows, a forward pass over them, the loss, and three AdamW steps on an adapter."""

import torch

STEPS = 3
ADAMW = dict(lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
CLIP_NORM = 1.0


def disturb(model) -> None:
    """Draws larger weights than usual, so that attention is far from uniform and errors become visible."""
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn_like(tensor), alpha=0.15)


def random_rows(vocabulary: int, length: int, starts_of_rows):
    """Makes a row for each list of document starts. Labels are already shifted, and -100 for tokens without supervision."""
    rows = []
    for starts in starts_of_rows:
        ids = torch.randint(0, vocabulary, (length,)).tolist()
        segments = [sum(t >= start for start in starts) for t in range(length)]
        # The last token of a document has no label, and a few others are masked like prompts.
        ends = {start - 1 for start in starts} | {length - 1}
        labels = [-100 if t in ends or t % 7 == 3 else ids[t + 1] for t in range(length)]
        rows.append({"ids": ids, "segments": segments, "labels": labels})
    return rows


def column(rows, name: str) -> torch.Tensor:
    return torch.tensor([row[name] for row in rows])


def positions_of(rows) -> torch.Tensor:
    segments = column(rows, "segments")
    positions = torch.zeros_like(segments)
    for t in range(1, segments.shape[1]):
        positions[:, t] = torch.where(segments[:, t] == segments[:, t - 1], positions[:, t - 1] + 1, 0)
    return positions


def block_mask(rows, window: int | None = None) -> torch.Tensor:
    """Returns the mask [B, 1, T, T]: 0 where a token sees another one, elsewhere the minimum of the type.

    A token sees itself and the earlier tokens of its document, within the window.
    """
    segments = column(rows, "segments")
    index = torch.arange(segments.shape[1])
    distance = index[:, None] - index[None, :]
    visible = (segments[:, :, None] == segments[:, None, :]) & (distance >= 0)
    if window is not None:
        visible &= distance < window
    return torch.where(visible[:, None], 0.0, torch.finfo(torch.float32).min)


def packed_logits(model, rows, mask) -> torch.Tensor:
    """Returns the logits [B*T, V]. The mask is one tensor, or a dict with one per layer type, as the model expects."""
    out = model(input_ids=column(rows, "ids"), attention_mask=mask, position_ids=positions_of(rows), use_cache=False)
    return out.logits.flatten(0, 1)


def loss_of(logits: torch.Tensor, rows) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits, column(rows, "labels").flatten(), ignore_index=-100)


def check_packing(model, rows, starts_of_rows, logits) -> None:
    """Checks that packed logits equal the logits of each document alone, computed without mask and positions."""
    length = len(rows[0]["ids"])
    for r, row in enumerate(rows):
        starts = starts_of_rows[r] + [length]
        for start, end in zip(starts, starts[1:]):
            alone = model(input_ids=torch.tensor([row["ids"][start:end]]), use_cache=False).logits[0]
            packed = logits[r * length + start : r * length + end]
            assert (alone - packed).abs().max() < 1e-5, (r, start)


def train(parameters, loss) -> list[float]:
    """Trains `parameters` in place; returns the loss before each step."""
    optimizer = torch.optim.AdamW(parameters, **ADAMW)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        losses.append(value.item())
    optimizer.zero_grad()
    return losses


def adapted_reference(tensors, losses, case: str, parameters, logits_of, rows) -> None:
    """Adds CASE.logits, CASE.gradients.TENSOR and CASE.trained.TENSOR; restores the parameters."""
    logits = logits_of()
    tensors[f"{case}.logits"] = logits.detach()
    loss_of(logits, rows).backward()
    start = [tensor.detach().clone() for _, tensor in parameters]
    for name, tensor in parameters:
        tensors[f"{case}.gradients.{on_disk(name)}"] = tensor.grad.clone()
    losses[case] = train([tensor for _, tensor in parameters], lambda: loss_of(logits_of(), rows))
    for (name, tensor), value in zip(parameters, start):
        tensors[f"{case}.trained.{on_disk(name)}"] = tensor.detach().clone()
        tensor.data.copy_(value)


def adapter_parameters(model):
    """Returns the trained tensors of a PEFT model, with B set to nonzero values so that A has gradients."""
    trained = [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]
    with torch.no_grad():
        for name, tensor in trained:
            if "lora_B" in name:
                tensor.normal_(0, 0.2)
    return trained


def settings(batch: int, length: int, lora: dict) -> dict:
    return {**lora, **ADAMW, "clipNorm": CLIP_NORM, "steps": STEPS, "batch": batch, "length": length}


def on_disk(name: str) -> str:
    return name.replace(".default.", ".")
