"""The reconstruction does the described work: what it decodes is what the original decodes, and when it does so."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFont

import envs
from cluster.bench import original_art
from cluster.bench.envs_cards import GAMES
from envs.gym_cards.drawing import WHITE

# Per game: cards decoded at a reset, at a step.
DECODED = {"NumberLine": (0, 0), "EZPoints": (2, 0), "Points24": (4, 0), "Blackjack": (2, 1)}


@pytest.fixture(scope="module")
def art(tmp_path_factory):
    folder = tmp_path_factory.mktemp("art")
    original_art.write_art(folder)
    return folder


def test_the_art_has_the_original_format(art):
    names = {path.stem for path in art.glob("*.png")}
    assert names == {*"A23456789TJQK", "back"}
    for name in names:
        content = (art / f"{name}.png").read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n" and content[12:16] == b"IHDR"
        width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
        assert (width, height, content[24], content[25]) == (750, 1050, 16, 6), "size, depth, RGBA"


def test_png_keeps_the_pixels():
    noise = np.random.default_rng(0).integers(0, 256, (7, 5, 4), np.uint8)
    content = original_art.png(Image.fromarray(noise, "RGBA"))
    with Image.open(io.BytesIO(content)) as read:
        assert np.array_equal(np.asarray(read.convert("RGBA")), noise)


@pytest.mark.parametrize("game", GAMES, ids=lambda game: game.name)
def test_cards_and_fonts_are_read_as_often_as_described(game, art, monkeypatch):
    opened, fonts = [], []
    real_open, real_font = Image.open, ImageFont.truetype
    monkeypatch.setattr(Image, "open", lambda path: opened.append(path) or real_open(path))
    monkeypatch.setattr(ImageFont, "truetype", lambda path, size: fonts.append(path) or real_font(path, size))
    env, adapter = envs.make(game.env_id)
    original = game.original(art)
    observation, info = env.reset(seed=0)
    at_reset, at_step = DECODED[game.name]
    for kind, decoded in (("reset", at_reset), ("step", at_step), ("step", at_step)):
        opened.clear()
        fonts.clear()
        frame = original.draw(kind, info)
        assert (len(opened), len(fonts)) == (decoded, 1)
        assert frame.shape == observation.shape and frame.dtype == np.uint8
        ground = WHITE if game.name == "NumberLine" else tuple(observation[-1, -1])
        assert tuple(frame[-1, -1]) == ground
        assert len(np.unique(frame.reshape(-1, 3), axis=0)) > 2, "something is drawn"


def test_every_game_is_contested():
    assert {game.name for game in GAMES} == set(DECODED)
