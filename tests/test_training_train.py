"""From batches to weights, from weights to a checkpoint that loads."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from model.checkpoint import load_model
from training.data import IGNORED, Batch, Streams
from training.life import DataConfig
from training.losses import LOSSES, answer_loss
from training.nano import GRID, KEPT_BITS, nano_config, save_checkpoint
from training.recipe import Optimiser, Recipe, read_recipe
from training.train import initial_model, main, shares
from training.trainer import Trainer
from training.vocabulary import write_tokenizer

CPU = torch.device("cpu")
RECIPE = Recipe(
    steps=10,
    data=DataConfig(streams=2, frames=4, questions=2, dialogues=1, fps=(2.0,)),
    optimiser=Optimiser(warm_up=1),
)


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    write_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def batch(tokenizer_file: Path) -> Batch:
    return next(iter(Streams(RECIPE.data, str(tokenizer_file), 1, 0, 10)))


def test_a_few_steps_on_one_batch_lower_its_losses_and_what_is_saved_goes_on_alike(
    batch: Batch, tokenizer_file: Path, tmp_path: Path
) -> None:
    """What is saved resumes, and loads as a checkpoint of at most 10 M parameters."""
    trainer = Trainer(initial_model(CPU, 1), RECIPE, CPU)
    losses = [trainer.step(trainer.prepare(batch), 0.5)[0].clone() for _ in range(3)]
    assert all(last < first for first, last in zip(losses[0][:2], losses[-1][:2], strict=True))
    trainer.save(tmp_path, {"step": 3, "seconds": 1.0})
    other = Trainer(initial_model(CPU, 2), RECIPE, CPU)
    other.resume(tmp_path)
    assert all(map(torch.equal, trainer.parameters, other.parameters))
    sizes = [file.stat().st_size for file in tmp_path.iterdir()]
    assert max(sizes) <= 16e6 and sum(sizes) <= 64e6

    save_checkpoint(trainer.vlm, tokenizer_file, tmp_path / "checkpoint")
    model = load_model(str(tmp_path / "checkpoint"))
    assert sum(p.numel() for p in model.vlm.parameters()) <= 10e6
    for name, parameter in model.vlm.named_parameters():
        expected = trainer.vlm.get_parameter(name).detach()
        # Half a unit of the last of KEPT_BITS bits, after half a one of fp16.
        torch.testing.assert_close(
            parameter, expected, rtol=0.5 ** (KEPT_BITS + 1) + 0.5**11, atol=1e-4
        )

    # Momentum is kept in bf16, so the next steps agree to its precision.
    before = [p.detach().clone() for p in trainer.parameters]
    torch.manual_seed(0)
    for one in (trainer, other):
        one.generator.manual_seed(5)
        one._carried.clear()
        one.step(one.prepare(batch), 0.1)
    apart = [
        float((a - b).detach().norm() / (a - old).detach().norm().clamp_min(1e-9))
        for a, b, old in zip(trainer.parameters, other.parameters, before, strict=True)
    ]
    # Of a step: Muon makes much of what is little. Without its memory a step is another one.
    assert max(apart) < 0.3 and sorted(apart)[len(apart) // 2] < 0.01


def test_streams_carry_what_they_remember_until_they_begin_anew(batch: Batch) -> None:
    """Each group of streams has its own; a fresh stream gets the start token's state."""
    trainer = Trainer(initial_model(CPU, 1), RECIPE, CPU)
    trainer.step(trainer.prepare(batch), 0.0)
    assert trainer._carry(batch).num_tokens.tolist() == [1, 1]
    older = dataclasses.replace(batch, fresh=torch.tensor([True, False]))
    tokens = 1 + GRID[0] * GRID[1] * RECIPE.data.frames
    assert trainer._carry(older).num_tokens.tolist() == [1, tokens]
    wiped = trainer._carry(dataclasses.replace(older, wiped=torch.tensor([False, True])))
    whole = trainer._carry(older)
    for (first, second), (was, also) in zip(wiped.layers, whole.layers, strict=True):
        recurrent = second.ndim == 3
        assert bool(first[1].any()) != recurrent
        assert torch.equal(first[0], was[0]) and torch.equal(second, also)
        assert recurrent or torch.equal(first[1], was[1])
    strangers = dataclasses.replace(older, group=1)
    assert trainer._carry(strangers).num_tokens.tolist() == [1, 1]


def test_a_short_answer_weighs_as_much_as_a_long_one() -> None:
    logits = torch.randn(3, 4, 7)
    targets = torch.tensor([[1, IGNORED, IGNORED, IGNORED], [2, 3, 4, 5], [IGNORED] * 4])
    each = torch.nn.functional.cross_entropy(logits[1], targets[1])
    one = torch.nn.functional.cross_entropy(logits[0, :1], targets[0, :1])
    torch.testing.assert_close(answer_loss(logits, targets), (one + each) / 2)


def test_the_recipe_in_the_repository_is_whole() -> None:
    for name in ("nano", "more", "smoke"):
        recipe = read_recipe(Path(__file__).parent.parent / "training" / f"{name}.toml")
        assert len(recipe.losses) == len(LOSSES)


def test_a_key_that_no_recipe_has_is_named(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("steps = 10\n[data]\nframs = 4\n")
    with pytest.raises(ValueError, match="frams"):
        read_recipe(file)


def test_the_rate_warms_up_after_every_start_and_falls_with_whichever_runs_out_first() -> None:
    recipe = Recipe(steps=100, seconds=50.0, optimiser=Optimiser(floor=0.1, warm_up=10))
    assert recipe.rate(0, 0, 0.0) == pytest.approx(0.1)
    assert recipe.rate(50, 50, 0.0) == pytest.approx(0.5)
    assert recipe.rate(50, 50, 40.0) == pytest.approx(0.2)
    assert recipe.rate(50, 0, 0.0) == pytest.approx(0.05)
    assert recipe.rate(99, 99, 0.0) == pytest.approx(0.1)
    held = Recipe(steps=100, optimiser=Optimiser(warm_up=1, hold=0.6, floor=0.1))
    rates = [held.rate(step, step, 0.0) for step in (0, 60, 80, 99)]
    assert rates == pytest.approx([1.0, 1.0, 0.5, 0.1])
    with pytest.raises(ValueError, match="hold must be"):
        Recipe(steps=100, optimiser=Optimiser(hold=1.0))
    assert recipe.progress(10, 50.0) == 1.0


def test_shares_are_of_questions_not_of_families() -> None:
    from training.asking import FAMILY_NAMES

    asked, right = [0.0] * (2 * len(FAMILY_NAMES)), [0.0] * (2 * len(FAMILY_NAMES))
    visible, seen = FAMILY_NAMES.index("visible"), FAMILY_NAMES.index("seen")
    asked[2 * visible], right[2 * visible] = 9.0, 6.0
    asked[2 * seen], asked[2 * seen + 1], right[2 * seen + 1] = 2.0, 4.0, 3.0
    found = shares(asked, right)
    assert (found["perception"], found["memory"], found["far"]) == (0.6667, 0.0, 0.75)


def test_a_run_goes_on_where_a_piece_of_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pieces of a tiny recipe: the second begins at the first's last step."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        "steps = 3\nlog_every = 1\n[data]\nstreams = 1\nframes = 2\ndialogues = 1\nfps = [2.0]\n"
    )
    out = tmp_path / "run"
    args = ["train", "--out", str(out), "--recipe", str(recipe), "--workers", "0"]
    monkeypatch.setattr("sys.argv", [*args, "--piece", "1e-9"])
    main()
    assert json.loads((out / "progress.json").read_text())["step"] == 2
    monkeypatch.setattr("sys.argv", args)
    main()
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]
    assert load_model(str(out / "checkpoint")).trained


def test_a_run_that_begins_with_weights_knows_what_they_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own tokenizer, old streams from the first step on, and no weight moved by new heads."""
    recipe, out = tmp_path / "recipe.toml", tmp_path / "run"
    recipe.write_text(
        "steps = 10\nbegin = 0.7\nlog_every = 1\n[data]\nstreams = 2\nframes = 8\ndialogues = 1\n"
        "fps = [2.0]\n[optimiser]\nhold = 0.9\nwarm_up = 1\nheads_first = 9\n"
    )
    nano = Path("assets/nano")
    args = ["--out", str(out), "--recipe", str(recipe), "--weights", str(nano), "--workers", "0"]
    monkeypatch.setattr("sys.argv", ["train", *args])
    main()
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [8, 9, 10]
    # Untrained weights begin at the logarithm of the vocabulary, 7.6 nats.
    assert all(line["answers"] < 1.0 and line["rate"] == 0.0 for line in lines)
    assert lines[-1]["classes"] < lines[0]["classes"] - 0.5
    assert (out / "tokenizer.json").read_bytes() == (nano / "tokenizer.json").read_bytes()
    before, after = (load_model(str(f)).vlm.state_dict() for f in (nano, out / "checkpoint"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_window_is_short_and_the_frame_is_64_tokens() -> None:
    """Eight frames in the window: what is older lives in the recurrent state alone."""
    config = nano_config()
    assert config.sliding_window // (GRID[0] * GRID[1]) == 8
    assert config.vision.cell_size * GRID[0] == 224
