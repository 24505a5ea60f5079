import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from learner.config import ComputeConfig, SFTConfig
from learner.scopes import in_scope
from learner.sft import batches_of, run_sft
from learner.stage_settings import SelectionConfig
from protocol.errors import TrajectoryError
from protocol.trajectory import DEMONSTRATION_VERSION, NO_DIGEST
from tests.learner.sampled import collected, episode, step
from tests.learner.world import COMPUTE, STATES, Reference, World

QUICK = SFTConfig(steps=12, batch_size=4, learning_rate=1e-2, warmup_steps=2)


def shown(world, number, **changes):
    state = STATES[number]
    return world.step(
        trajectory=f"demo-{number}",
        state=state,
        policy_version=DEMONSTRATION_VERSION,
        behavior_log_probs=np.zeros(len(world.response(state)), np.float32),
        temperature=0.3,  # how the expert was drawn is none of the loss's business
        **changes,
    )


def demonstrations(world, **changes):
    steps = [shown(world, number) for number in range(len(STATES))]
    steps[0] = replace(steps[0], **changes)
    return [world.batch(steps[:4]), world.batch(steps[4:])]


def tensors(folder):
    return load_file(folder / "model.safetensors")


def test_the_loss_falls_and_the_folder_is_an_ordinary_one(either_world, tmp_path):
    seen = []
    out = tmp_path / "sft"
    metrics = run_sft(
        either_world.folder,
        demonstrations(either_world),
        QUICK,
        seed=0,
        out_dir=out,
        compute=COMPUTE,
        on_step=lambda step, loss: seen.append((step, loss)),
    )
    assert [step for step, _ in seen] == list(range(1, 13))
    assert metrics["first_loss"] == seen[0][1]
    assert seen[-1][1] < 0.5 * seen[0][1]
    assert {p.name for p in out.iterdir()} == {p.name for p in either_world.folder.iterdir()}
    # vLLM reads LLaVA weights only under the key names of the hub, which the source folder has.
    assert tensors(out).keys() == tensors(either_world.folder).keys()
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (either_world.folder / name).read_bytes()
    AutoProcessor.from_pretrained(out)
    assert AutoModelForImageTextToText.from_pretrained(out).dtype is torch.float32
    response = either_world.response(STATES[0])
    arguments = (either_world.expanded(), response, [either_world.png(STATES[0])])
    after, before = Reference(World(out)), Reference(either_world)
    assert after.log_probs(*arguments).sum() > before.log_probs(*arguments).sum() + 10


def test_the_first_loss_is_the_mean_over_response_tokens(either_world, reference_of, tmp_path):
    one_step = QUICK.model_copy(update={"steps": 1, "batch_size": len(STATES)})
    metrics = run_sft(
        either_world.folder, demonstrations(either_world), one_step, seed=0, out_dir=tmp_path / "out", compute=COMPUTE
    )
    reference = reference_of(either_world)
    log_probs = np.concatenate(
        [reference.log_probs(either_world.expanded(), either_world.response(s), [either_world.png(s)]) for s in STATES]
    )
    assert metrics["first_loss"] == pytest.approx(-log_probs.mean(), abs=1e-5)


@pytest.mark.parametrize("scope", ["language", "language+projector", "all"])
def test_only_weights_in_scope_move(either_world, tmp_path, scope):
    settings = QUICK.model_copy(update={"steps": 2, "trainable": scope, "weight_decay": 0.0})
    out = tmp_path / "out"
    run_sft(either_world.folder, demonstrations(either_world), settings, seed=0, out_dir=out, compute=COMPUTE)
    before = dict(AutoModelForImageTextToText.from_pretrained(either_world.folder).named_parameters())
    after = dict(AutoModelForImageTextToText.from_pretrained(out).named_parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(in_scope(name, scope) for name in moved)
    weights = {name for name in before if in_scope(name, scope) and name.endswith("proj.weight")}
    assert weights <= moved


def test_microbatches_and_seeds(world, tmp_path):
    def final(name, seed=0, budget=256):
        compute = ComputeConfig(device="cpu", micro_batch_tokens=budget)
        run_sft(world.folder, demonstrations(world), QUICK, seed=seed, out_dir=tmp_path / name, compute=compute)
        return tensors(tmp_path / name)

    first, same, other, small = final("a"), final("b"), final("c", seed=1), final("d", budget=1)
    assert all(torch.equal(first[k], same[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)
    for key in first:
        torch.testing.assert_close(first[key], small[key], atol=5e-3, rtol=0)


def test_batches_are_full_and_cover_the_rows_evenly():
    batches = batches_of(5, 4, seed=0)
    drawn = np.concatenate([next(batches) for _ in range(5)])
    assert len(drawn) == 20
    assert sorted(drawn.tolist()) == sorted(list(range(5)) * 4)
    assert sorted(drawn[:5].tolist()) == list(range(5))
    assert len(next(batches_of(2, 6, seed=0))) == 6


def test_bfloat16_results_are_saved_in_bfloat16(world, tmp_path):
    compute = COMPUTE.model_copy(update={"precision": "bfloat16"})
    metrics = run_sft(world.folder, demonstrations(world), QUICK, seed=0, out_dir=tmp_path / "out", compute=compute)
    assert metrics["final_loss"] < metrics["first_loss"]
    assert {t.dtype for t in tensors(tmp_path / "out").values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy_version": 0}, r"demo-0.*no adapter.*policy_version -2"),
        ({"reward": float("nan")}, "reward is not finite"),
        ({"prompt_token_ids": np.array([5, 6, 7], dtype=np.int32)}, "0 image placeholders for 9 image tokens"),
    ],
)
def test_bad_demonstrations_are_refused_before_training(world, tmp_path, changes, message):
    with pytest.raises(TrajectoryError, match=message):
        run_sft(world.folder, demonstrations(world, **changes), QUICK, seed=0, out_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_demonstrations(world, tmp_path):
    with pytest.raises(TrajectoryError, match="no demonstration"):
        run_sft(world.folder, [], QUICK, seed=0, out_dir=tmp_path / "out", compute=COMPUTE)


def test_an_existing_result_is_not_overwritten(world, tmp_path):
    shutil.copytree(world.folder, tmp_path / "out")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        run_sft(world.folder, demonstrations(world), QUICK, seed=0, out_dir=tmp_path / "out")


def test_a_policys_own_successes_are_learnt_and_its_failures_are_not(world, tmp_path):
    batches, rows, _ = collected(
        world,
        episode("won", step(world, STATES[0], "+", 1.0)),
        episode("lost", step(world, STATES[0], "-", -1.0)),
    )
    out = tmp_path / "out"
    metrics = run_sft(
        world.folder,
        batches,
        QUICK,
        seed=0,
        out_dir=out,
        compute=COMPUTE,
        published={0: NO_DIGEST},
        selection=SelectionConfig(),
    )
    assert (metrics["episodes"], metrics["successes"], metrics["rows_kept"]) == (2.0, 1.0, 1.0)
    assert metrics["tokens"] == len(rows.responses[0])
    after, before = Reference(World(out)), Reference(world)
    gains = [
        model.log_probs(rows.prompts[row], rows.responses[row], [world.png(STATES[0])]).sum()
        for row in (0, 1)
        for model in (after, before)
    ]
    assert gains[0] - gains[1] > gains[2] - gains[3] + 2


def test_sampled_rows_need_a_known_policy(world, tmp_path):
    batches, _, _ = collected(world, episode("won", step(world, STATES[0], "+", 1.0)))
    with pytest.raises(TrajectoryError, match="1 trajectories are unusable.*no adapter that this learner published"):
        run_sft(world.folder, batches, QUICK, seed=0, out_dir=tmp_path / "out", published={3: NO_DIGEST})


def test_what_is_not_legal_is_not_imitated(world, tmp_path):
    steps = [shown(world, number, legal=number < 2) for number in range(len(STATES))]
    metrics = run_sft(world.folder, [world.batch(steps)], QUICK, seed=0, out_dir=tmp_path / "out", compute=COMPUTE)
    assert metrics["tokens"] == sum(len(step.response_token_ids) for step in steps[:2])
    with pytest.raises(TrajectoryError, match="None of the .* rows names a legal action"):
        run_sft(world.folder, [world.batch(steps[2:])], QUICK, seed=0, out_dir=tmp_path / "none", compute=COMPUTE)
