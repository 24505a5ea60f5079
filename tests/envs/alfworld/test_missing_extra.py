"""What a user sees who has not installed the optional packages; each in a process of its own."""

import subprocess
import sys

HIDE = "import sys; sys.modules.update(alfworld=None, textworld=None); import envs\n"


def run(code):
    return subprocess.run([sys.executable, "-c", HIDE + code], capture_output=True, text=True, timeout=60)


def test_the_id_is_known_and_says_what_to_install():
    done = run("assert 'alfworld/Text-v0' in envs.known_ids(); envs.make('alfworld/Text-v0')")
    assert done.returncode == 1
    assert "EnvSetupError: ALFWorld is an optional extra" in done.stderr
    assert "pip install 'croupier[alfworld]'" in done.stderr


def test_language_matching_and_goals_need_no_extra():
    names = (
        "expert",
        "game_files",
        "goal",
        "processes",
        "schematic",
        "search",
        "text_task",
        "view",
        "wording",
        "world",
    )
    done = run(f"import importlib\nfor name in {names}: importlib.import_module(f'envs.alfworld.{{name}}')")
    assert done.returncode == 0, done.stderr


def test_the_commands_say_it_too():
    for arguments in (["fetch"], ["generate"], ["list", "tiny"]):
        done = run(f"sys.argv = ['croupier', 'alfworld', *{arguments}]\nfrom cluster.cli import main; main()")
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("EnvSetupError: ALFWorld is an optional extra"), done.stderr
