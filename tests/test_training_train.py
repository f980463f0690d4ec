"""From worlds to batches, from batches to weights, from weights to a checkpoint that loads."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.checkpoint import load_model
from model.tokenizer import ChatTokenizer
from training.data import IGNORED, Batch, Phase, Streams
from training.nano import GRID, VOCAB_SIZE, nano_config, save_checkpoint
from training.train import QUESTION_TOKENS, Settings, Trainer, initial_model, learning_rate
from training.vocabulary import write_tokenizer
from training.world import WorldStyle

PHASE = Phase(steps=1, streams=2, frames=4, questions=5, memory_share=0.4, style=WorldStyle())


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    write_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def batch(tokenizer_file: Path) -> Batch:
    return next(iter(Streams(PHASE, str(tokenizer_file), 1, QUESTION_TOKENS)))


def test_a_row_teaches_its_answer_and_its_end(batch: Batch, tokenizer_file: Path) -> None:
    """Targets are the answer's tokens and the turn's end, each one place ahead of its input."""
    tokenizer = ChatTokenizer.from_file(tokenizer_file, VOCAB_SIZE)
    branches = batch.branches
    assert batch.times_s.shape == (2, 4) and branches.ids.shape == (10, QUESTION_TOKENS)
    assert branches.frame.max() < PHASE.frames and set(branches.stream.tolist()) == {0, 1}
    taught = 0
    for ids, targets, length in zip(branches.ids, batch.targets, branches.lengths, strict=True):
        asked = (targets != IGNORED).nonzero().flatten()
        if len(asked) == 0:
            continue
        taught += 1
        assert asked[-1] == length - 1 and targets[asked[-1]] == tokenizer.im_end_id
        assert torch.equal(targets[asked[:-1]], ids[asked[:-1] + 1])
        assert ids[0] == tokenizer.vision_end_id
    assert taught >= 7


def test_the_same_seed_gives_the_same_batch(batch: Batch, tokenizer_file: Path) -> None:
    """And another seed another one."""
    again = next(iter(Streams(PHASE, str(tokenizer_file), 1, QUESTION_TOKENS)))
    other = next(iter(Streams(PHASE, str(tokenizer_file), 2, QUESTION_TOKENS)))
    assert all(map(torch.equal, batch.tensors(), again.tensors()))
    assert not torch.equal(batch.scenes, other.scenes)


def test_a_few_steps_on_one_batch_lower_its_loss(
    batch: Batch, tokenizer_file: Path, tmp_path: Path
) -> None:
    """What is saved then resumes bitwise and loads as a checkpoint of at most 10 M parameters."""
    trainer = Trainer(initial_model(torch.device("cpu"), 1), Settings(), torch.device("cpu"))
    losses = [trainer.step(trainer.prepare(batch), 1e-3)[0].item() for _ in range(3)]
    assert losses[-1] < losses[0]
    trainer.save(tmp_path, 4, 10)
    other = Trainer(initial_model(torch.device("cpu"), 2), Settings(), torch.device("cpu"))
    assert other.resume(tmp_path) == 4
    pairs = zip(trainer.parameters, other.parameters, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)

    save_checkpoint(trainer.vlm, tokenizer_file, tmp_path / "checkpoint")
    sizes = [file.stat().st_size for file in (tmp_path / "checkpoint").iterdir()]
    model = load_model(str(tmp_path / "checkpoint"))
    assert sum(p.numel() for p in model.vlm.parameters()) <= 10e6 and max(sizes) <= 16e6
    for name, parameter in model.vlm.named_parameters():
        expected = trainer.vlm.get_parameter(name).detach()
        torch.testing.assert_close(parameter, expected, rtol=1e-3, atol=1e-4)


def test_the_window_is_short_and_the_frame_is_64_tokens() -> None:
    """Eight frames in the window: what is older lives in the recurrent state alone."""
    config = nano_config()
    assert config.sliding_window // (GRID[0] * GRID[1]) == 8
    assert config.vision.cell_size * GRID[0] == 224


def test_the_learning_rate_warms_up_after_every_start_and_falls_to_its_floor() -> None:
    """Linear in the step, scaled while a piece is young, never below the floor."""
    settings = replace(Settings(), learning_rate=1.0, floor=0.1, warm_up=10)
    assert learning_rate(0, 0, 100, settings) == pytest.approx(0.1)
    assert learning_rate(50, 50, 100, settings) == pytest.approx(0.5)
    assert learning_rate(50, 0, 100, settings) == pytest.approx(0.05)
    assert learning_rate(99, 99, 100, settings) == pytest.approx(0.1)
