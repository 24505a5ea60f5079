"""Ways in which vLLM takes the wrong adapter, or dies over one, and that a server goes into none of them.

A test first falls into its trap with vLLM's own calls, so that it tells when a later vLLM has it no more; then it shows
that the server does not. Where the trap kills the engine, it comes last.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from dataclasses import replace

import pytest
import pytest_asyncio

from actors import publisher
from actors.sampler import SamplingParams
from actors.vllm_requests import lora_request
from protocol.errors import AdapterRejected, UnknownPolicyVersion
from tests.actors.vllm_bench import CONFIG, NAIVE, Benches, Stream, naming, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]

SAME, OTHER = 1e-4, 0.1
"""Largest difference in log-prob of an answer of one adapter, smallest of an answer of another one or of a mixture
(seen: 4e-6 and 0.45)."""
LONG = SamplingParams(temperature=1.0, max_tokens=600, stop=())
TOWER = r".*visual\.(blocks\..*(qkv|proj)|merger\.mlp\.[02])"
TOWER_MLP = r".*visual.*(gate|up|down)_proj"
"""Layers whose names the language model has, too: the others vLLM refuses aloud."""
CURRENT = "current"
"""The one name of a publisher that has not heard of versions."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def benches(tiny_folder):
    benches = Benches(tiny_folder)
    yield benches
    await benches.close()


@pytest_asyncio.fixture(loop_scope="module")
async def bench(benches):
    bench = await benches.get(vision=False)
    yield bench
    if not bench.llm.errored:
        await bench.forget_naive()


@pytest_asyncio.fixture(loop_scope="module")
async def vision_bench(benches):
    bench = await benches.get(vision=True)
    yield bench
    if not bench.llm.errored:
        await bench.forget_naive()


@pytest.mark.parametrize("way", ["in place", "another number"])
async def test_no_cached_beginning_of_a_prompt_outlives_its_version(bench, tmp_path, way):
    # One name and path for all versions. The cache goes by these two, and its canaries would not tell: prompts that
    # are scored are computed anew.
    asked, folder = bench.asked(), write(tmp_path / CURRENT, bench.package(1))
    first = naming(CURRENT, NAIVE, folder)
    second = naming(CURRENT, NAIVE if way == "in place" else NAIVE + 1, folder)
    assert bench.error(asked, await bench.draw(asked, first), 1) < SAME
    write(folder, bench.package(2))
    await bench.llm.add_lora(naming(CURRENT, second.lora_int_id, folder, load_inplace=True))
    stale = await bench.draw(asked, second)
    assert stale.num_cached_tokens >= 32
    assert min(bench.error(asked, stale, seed) for seed in (1, 2)) > OTHER
    await bench.forget_naive()

    versions = await bench.publish(1, 2)
    for repetition in range(2):
        for version, seed in zip(versions, (1, 2), strict=True):
            again = await bench.draw(asked, lora_request(bench.handle(version)))
            assert (again.num_cached_tokens >= 32) == (repetition > 0), "the cache is to be used, within a version"
            sample = await bench.server.sample(bench.asked(version))
            assert bench.error(asked, sample, seed) < SAME


async def test_weights_are_read_once_and_not_at_every_step(bench, tmp_path):
    # `load_inplace` belongs to the call that loads. Left on in a request, it reads the file at every step.
    asked, folder = bench.asked(params=LONG), write(tmp_path / CURRENT, bench.package(1))
    stream = Stream(bench, asked, naming(CURRENT, NAIVE, folder, load_inplace=True))
    await stream.reach(2)
    write(folder, bench.package(2))
    await stream.reach(len(stream.token_ids) + 40)
    await stream.give_up()
    errors = bench.errors(asked, stream.token_ids, stream.log_probs, 1)
    assert errors[0] < SAME and errors[-20:].max() > OTHER
    await bench.forget_naive()

    (version,) = await bench.publish(1)
    handle = bench.handle(version)
    stream = Stream(bench, asked, lora_request(handle))
    await stream.reach(2)
    write(handle.path, bench.package(2))
    await stream.reach(len(stream.token_ids) + 40)
    await stream.give_up()
    assert bench.errors(asked, stream.token_ids, stream.log_probs, 1).max() < SAME
    assert bench.error(asked, await bench.server.sample(bench.asked(version)), 1) < SAME


async def test_no_vision_part_is_left_out_in_silence(bench, tmp_path, monkeypatch):
    lora = naming("vision", NAIVE, write(tmp_path / "vision", bench.package(101, targets=TOWER_MLP)))
    assert await bench.llm.add_lora(lora)
    asked = bench.asked()
    ignored = await bench.draw(asked, lora)
    assert bench.error(asked, ignored, None) < SAME and bench.error(asked, ignored, 101) > OTHER
    await bench.forget_naive()

    (current,) = await bench.publish(1)
    package = bench.package(101, version=bench.new_version(), targets=TOWER_MLP)
    with pytest.raises(AdapterRejected, match="set vision_adapters: true"):
        await bench.server.publish(package)
    monkeypatch.setattr(publisher, "check_package", lambda package, **limits: None)
    with pytest.raises(AdapterRejected, match="the adapter is not in effect"):
        await bench.server.publish(package)
    assert (await bench.server.status())["live_versions"] == [current]


async def test_an_image_is_known_by_its_pixels_whatever_the_version(bench):
    # Processed images are kept under the name that comes with them: under another one's, one sees the other.
    shown, other = bench.asked(image=0), bench.asked(image=1, words="Look: ")
    await bench.draw(shown, None)
    answer = await bench.draw(replace(other, image_digests=shown.image_digests), None)
    seen = bench.asked(image=0, words="Look: ")
    assert bench.error(other, answer, None) > OTHER and bench.error(seen, answer, None) < SAME

    versions = await bench.publish(1, 2)
    for words in ("", "Look: ", "Look here: "):  # new beginnings, so that the images are looked up, not the prompts
        for image, (version, seed) in itertools.product((0, 1), zip(versions, (1, 2), strict=True)):
            asked = bench.asked(version, words, image=image)
            assert bench.error(asked, await bench.server.sample(asked), seed) < SAME


async def test_tokens_go_on_while_a_version_is_published(bench, monkeypatch):
    (old,) = await bench.publish(1)
    lora = lora_request(bench.handle(old))
    cut = Stream(bench, bench.asked(params=LONG), lora)
    await cut.reach(2)
    await bench.llm.pause_generation()
    await bench.llm.resume_generation()
    assert await cut.ended == "abort" and len(cut.token_ids) < LONG.max_tokens, "a pause ends what is in flight"

    async def pause(*args, **kwargs):
        raise AssertionError("a publish needs no pause, and no cache to be emptied")

    for name in ("pause_generation", "reset_prefix_cache", "reset_encoder_cache", "reset_mm_cache", "sleep"):
        monkeypatch.setattr(bench.llm, name, pause)
    asked = [bench.asked(words=word, params=LONG) for word in ("Look: ", "Play: ", "Now: ")]
    streams = [Stream(bench, one, lora) for one in asked]
    for stream in streams:
        await stream.reach(2)
    before = [len(stream.token_ids) for stream in streams]
    newer = bench.new_version()
    await bench.server.publish(bench.package(2, newer))
    during = [len(stream.token_ids) - tokens for stream, tokens in zip(streams, before, strict=True)]
    assert min(during) >= 2, f"tokens during the publish: {during}"
    sample = await bench.server.sample(bench.asked(newer))
    assert bench.error(bench.asked(), sample, 2) < SAME
    assert not any(stream.ended.done() for stream in streams), "the publish came too late to test anything"
    for stream, one in zip(streams, asked, strict=True):
        assert await stream.ended == "length"
        assert bench.errors(one, stream.token_ids, stream.log_probs, 1).max() < SAME


async def test_every_live_version_has_its_files_and_no_other_reaches_the_engine(bench, tmp_path):
    versions = [(await bench.publish(seed))[0] for seed in (1, 2)]
    with pytest.raises(UnknownPolicyVersion, match="is retired"):
        await bench.server.sample(bench.asked(versions[0]))
    versions = (await bench.publish(1, 2, 1, 2, 1, 2, 1))[-CONFIG.adapter_slots :]
    handles = [bench.handle(version) for version in versions]
    assert set(await bench.llm.list_loras()) == {handle.serial for handle in handles}
    await bench.llm.remove_lora(handles[0].serial)
    for version, seed in zip(versions, (1, 2, 1, 2, 1), strict=True):
        assert bench.error(bench.asked(), await bench.server.sample(bench.asked(version)), seed) < SAME

    given_up = [asyncio.create_task(bench.server.sample(bench.asked(versions[0], w, LONG))) for w in ("", "a", "b")]
    async with asyncio.timeout(30):
        while bench.llm.get_num_unfinished_requests() < len(given_up):
            await asyncio.sleep(0.01)
    for task in given_up:
        task.cancel()
    await asyncio.wait(given_up)
    await bench.server.retire(versions[0])
    assert not handles[0].path.exists()
    await bench.server.sample(bench.asked(versions[1]))

    # More adapters than the engine holds, and files that go with the next one.
    naive = [
        naming(f"naive-{n}", NAIVE + n, write(tmp_path / f"naive-{n}", bench.package(1)))
        for n in range(CONFIG.adapter_slots + 2)
    ]
    for lora in naive:
        await bench.llm.add_lora(lora)
    assert naive[0].lora_int_id not in await bench.llm.list_loras()
    shutil.rmtree(naive[0].path)
    with pytest.raises(Exception, match="EngineCore"):
        await bench.draw(bench.asked(), naive[0])
    assert bench.llm.errored


@pytest.mark.parametrize("way", ["in place", "another number"])
async def test_no_cached_embedding_of_an_image_outlives_its_version(vision_bench, tmp_path, way):
    # Embeddings go by the adapter's name alone: another number and another path do not help.
    bench, asked = vision_bench, vision_bench.asked()
    folder = write(tmp_path / "1", bench.package(102, targets=TOWER))
    assert bench.error(asked, await bench.draw(asked, naming(CURRENT, NAIVE, folder)), 102) < SAME
    if way == "in place":
        second = naming(CURRENT, NAIVE, write(folder, bench.package(103, targets=TOWER)))
        await bench.llm.add_lora(naming(CURRENT, NAIVE, folder, load_inplace=True))
        assert await bench.llm.reset_prefix_cache()
    else:
        second = naming(CURRENT, NAIVE + 1, write(tmp_path / "2", bench.package(103, targets=TOWER)))
    stale = await bench.draw(asked, second)
    assert stale.num_cached_tokens == 0
    assert bench.error(asked, stale, 102) < SAME and bench.error(asked, stale, 103) > OTHER
    await bench.forget_naive()

    versions = await bench.publish(102, 103, targets=TOWER)
    for words in ("", "Look: ", ""):
        for version, seed in zip(versions, (102, 103), strict=True):
            asked = bench.asked(version, words)
            assert bench.error(asked, await bench.server.sample(asked), seed) < SAME


async def test_no_two_live_versions_share_a_name_a_number_or_a_path(vision_bench, tmp_path):
    bench = vision_bench
    versions = await bench.publish(1, 2, 3)
    with pytest.raises(AdapterRejected, match="was sent before with digest"):
        await bench.server.publish(bench.package(4, versions[-1]))
    handles = [lora_request(bench.handle(version)) for version in versions]
    for key in ("lora_name", "lora_int_id", "lora_path"):
        assert len({getattr(lora, key) for lora in handles}) == len(versions)
    asked = [bench.asked(version) for version in versions * 4]
    samples = await asyncio.gather(*map(bench.server.sample, asked))
    for one, sample, seed in zip(asked, samples, (1, 2, 3) * 4, strict=True):
        assert bench.error(one, sample, seed) < SAME

    naive = [naming(CURRENT, NAIVE + n, write(tmp_path / f"{n}", bench.package(1 + n))) for n in range(2)]
    first = Stream(bench, bench.asked(params=LONG), naive[0])
    await first.reach(2)
    with pytest.raises(Exception, match="EngineCore"):
        await bench.draw(bench.asked(), naive[1])
    assert bench.llm.errored
    await asyncio.wait([first.ended])
