"""What training asks of the model: right answers, and cells that know what they show.

Answers alone would teach slowly. So image tokens also tell, through heads that are not kept, which
thing a cell shows, the text it is part of, letter by letter, and, further up, which way it moves
and what has to be remembered: what came before it, how often it has been there, how many different
things there were, what came last, what left last and from where, what has just happened. A question
is asked about one of these now and then; here every frame is. So are, at some moments, the
recurrent states: what they tell of each thing (training/recollection.py). And a question that names
a thing is to know all that can be asked of it, half way up already, whatever it asks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import InfiniteVLConfig
from model.infinitevl import InfiniteVL
from model.vision_grid import VisionGrid
from training.asking import FAMILY_NAMES
from training.carried import Carried
from training.data import IGNORED, Batch, Rows
from training.nano import GRID
from training.recollection import TOLD, Recollection
from training.render import NUM_CHARACTERS, Labels
from training.stream_pass import RunLayer, run_layer, stream_pass
from training.world import MAX_DISTINCT, MAX_TIMES, RECOLLECTED
from training.world_catalogue import load_catalogue
from training.world_scene import CHANGES, MAX_GLYPHS, MOTIONS, PAST_FIELDS, STREAM_FIELDS
from training.world_stage import REGIONS

NUM_KINDS = 2 * len(FAMILY_NAMES)
KNOWN = (*PAST_FIELDS, *STREAM_FIELDS)
# Those of them that are the class of a thing.
NAMED = (
    "before", "follows", "last_left", "newest", "previous", "came_before", "came_after",
)  # fmt: skip
# How many answers each of the others has.
CHOICES = {
    "times": MAX_TIMES + 1, "distinct": MAX_DISTINCT + 1, "left_from": len(REGIONS),
    "entered": 2, "left": 2, "cut": 2, "changed": len(CHANGES),
    "how_often": MAX_TIMES + 1, "last_at": len(REGIONS), "still_there": 2,
}  # fmt: skip
LOSSES = (
    "answers", "classes", "glyphs", "motions", "letters", *KNOWN, *RECOLLECTED[1:],
    *(f"named_{name}" for name in RECOLLECTED[1:]),
)  # fmt: skip
# Most cells show no more than background.
BACKGROUND_WEIGHT = 0.15
# Movement is known after the first group of layers, and there the past is to be ready for the rest.
WATCH = 3


class Heads(nn.Module):
    """What cells are asked beside the answers; thrown away after training."""

    def __init__(self, config: InfiniteVLConfig) -> None:
        super().__init__()
        hidden_size = config.hidden_size
        self.classes = nn.Linear(hidden_size, load_catalogue("train").num_classes)
        self.glyphs = nn.Linear(hidden_size, MAX_GLYPHS * (NUM_CHARACTERS + 1))
        self.motions = nn.Linear(hidden_size, len(MOTIONS))
        self.letters = nn.Linear(hidden_size, NUM_CHARACTERS + 1)
        told = dict.fromkeys(KNOWN, hidden_size) | dict.fromkeys(RECOLLECTED[1:], TOLD)
        self.known = nn.ModuleDict(
            {name: nn.Linear(size, CHOICES.get(name, hidden_size)) for name, size in told.items()}
        )
        for head in self.known.values():
            # Added to a model that knows much, they are not to begin with loud mistakes.
            nn.init.zeros_(head.get_parameter("weight"))
        self.recollection = Recollection(config)
        self.named = nn.Linear(hidden_size, TOLD)

    def knows(self, told: Tensor, names: Sequence[str] = KNOWN) -> list[Tensor]:
        """What vectors [..., n] tell of each name: [..., how many answers it has]."""
        known = {name: self.known[name](told) for name in names}
        return [self.classes(t) if name in NAMED else t for name, t in known.items()]


class Losses(NamedTuple):
    """Of one step.

    each: [len(LOSSES)], as named there; asked, right [NUM_KINDS]: how many questions of each kind
    there were and how many were answered wholly right; carried: what the streams carry on.
    """

    each: Tensor
    asked: Tensor
    right: Tensor
    carried: Carried


def losses(
    vlm: InfiniteVL,
    heads: Heads,
    grid: VisionGrid,
    patches: Tensor,
    labels: Labels,
    batch: Batch,
    carried: Carried,
    run: RunLayer = run_layer,
) -> Losses:
    """Let the streams of a batch go on and be asked.

    Args:
        patches: [B * F, 256, 588]; labels: of as many frames.
        carried: what the streams remember; run: `run_layer`, or the same compiled.
    """
    shape = batch.times_s.shape
    image_tokens = vlm.visual(patches, grid)
    passed = stream_pass(
        vlm,
        image_tokens.unflatten(0, shape),
        batch.times_s,
        carried,
        [rows.branches for rows in batch.asked],
        GRID,
        watch=WATCH,
        run=run,
    )
    seen = cell_losses(heads, image_tokens, passed.watched.flatten(0, 1), labels)
    seen += recollection_losses(heads, passed.memories, batch.recollected)
    seen += named_losses(heads, passed.half_way, batch.asked)
    hidden = [_at_answers(h, rows) for h, rows in zip(passed.hidden, batch.asked, strict=True)]
    targets = torch.cat([rows.targets.flatten(0, 2) for rows in batch.asked])
    kinds = torch.cat([rows.kinds.flatten() for rows in batch.asked])
    logits = vlm.language_model.logits(torch.cat(hidden))
    answers = answer_loss(logits, targets)
    right = ((logits.argmax(-1) == targets) | (targets == IGNORED)).all(-1)
    counts = torch.zeros(2, NUM_KINDS + 1, device=logits.device)
    # A row that teaches nothing, of kind -1, falls into a column that is dropped.
    counts.index_add_(1, kinds + 1, torch.stack([torch.ones_like(right), right]).float())
    asked, right = counts[:, 1:]
    return Losses(torch.stack([answers, *seen]), asked, right, passed.carried)


def answer_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean over questions of each answer's mean: a short answer weighs as much as a long one.

    Args:
        logits: [Q, ANSWER, vocabulary]; targets: [Q, ANSWER], IGNORED after the answer's end.
    """
    each = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    counts = (targets != IGNORED).sum(1)
    means = each.view(targets.shape).sum(1) / counts.clamp_min(1)
    return means.sum() / (counts > 0).sum().clamp_min(1)


def cell_losses(
    heads: Heads, image_tokens: Tensor, watched: Tensor, labels: Labels
) -> list[Tensor]:
    """What cells say they show and know: image tokens, watched vectors are [B * F, P, hidden]."""
    classes = labels.classes.flatten()
    weight = torch.where(classes == 0, BACKGROUND_WEIGHT, 1.0)
    named = F.cross_entropy(heads.classes(image_tokens).flatten(0, 1), classes, reduction="none")
    glyphs = labels.glyphs.flatten()
    read = heads.glyphs(image_tokens).view(-1, NUM_CHARACTERS + 1)
    # What does not move plainly and what is not there has no label.
    motions = torch.where(labels.motions == 0, IGNORED, labels.motions).flatten()
    moving = heads.motions(watched).flatten(0, 1)
    letters, spelled = labels.letters.flatten(), heads.letters(image_tokens).flatten(0, 1)
    # What is known of the whole stream, every cell of a frame is to know.
    stream = labels.stream[:, None].expand(*watched.shape[:2], -1)
    known = [*labels.past.flatten(1, 2).unbind(-1), *stream.unbind(-1)]
    return [
        (named.float() * weight).sum() / weight.sum(),
        _mean(read, glyphs),
        _mean(moving, motions),
        _mean(spelled, letters),
        *(
            _mean(told.flatten(0, 1), label.flatten())
            for told, label in zip(heads.knows(watched), known, strict=True)
        ),
    ]


def recollection_losses(
    heads: Heads, memories: Sequence[Tensor], recollected: Tensor
) -> list[Tensor]:
    """What the states of some frames tell of each thing; both as of `Passed` and `Batch`."""
    every = len(memories[0]) // recollected.shape[1]
    looked_up = F.embedding(recollected[..., 0], heads.classes.weight)
    told = heads.recollection(looked_up, [memory[every - 1 :: every] for memory in memories])
    return _told_losses(heads, told, recollected[..., 1:])


def named_losses(heads: Heads, half_way: Sequence[Tensor], asked: Sequence[Rows]) -> list[Tensor]:
    """What questions know of the thing they name, at its name; vectors as of `Passed`."""
    named = torch.cat([rows.named.flatten(0, 2) for rows in asked])
    at = torch.cat([_at(h, rows.named[..., :1]) for h, rows in zip(half_way, asked, strict=True)])
    return _told_losses(heads, heads.named(at.squeeze(1)), named[..., 1:])


def _told_losses(heads: Heads, told: Tensor, labels: Tensor) -> list[Tensor]:
    """Of what is told of things, [..., TOLD], against labels [..., len(RECOLLECTED) - 1]."""
    return [
        _mean(known.flatten(0, -2), label.flatten())
        for known, label in zip(heads.knows(told, RECOLLECTED[1:]), labels.unbind(-1), strict=True)
    ]


def _mean(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss over the labels that count; 0 if there are none."""
    total = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    return total / (labels >= 0).sum().clamp_min(1)


def _at_answers(hidden: Tensor, rows: Rows) -> Tensor:
    """What predicts the answers: [B, n, M, T, hidden] -> [B * n * M, ANSWER, hidden]."""
    steps = torch.arange(rows.targets.shape[-1], device=hidden.device)
    return _at(hidden, (rows.first[..., None] + steps).clamp_max(hidden.shape[3] - 1))


def _at(hidden: Tensor, places: Tensor) -> Tensor:
    """Vectors at places of rows: [B, n, M, T, hidden], [B, n, M, k] -> [B * n * M, k, hidden]."""
    flat, places = hidden.flatten(0, 2), places.flatten(0, 2)
    return flat.gather(1, places[..., None].expand(-1, -1, flat.shape[-1]))
