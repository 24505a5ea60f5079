"""What a user sees who has not installed ALFWorld at all; each in a process of its own."""

from tests.envs.alfworld.test_missing_extra import run


def test_the_id_is_known_and_says_what_to_install():
    done = run("assert 'alfworld/Thor-v0' in envs.known_ids(); envs.make('alfworld/Thor-v0')")
    assert done.returncode == 1
    assert "EnvSetupError: ALFWorld is an optional extra" in done.stderr


def test_the_boundary_and_the_process_need_no_extra():
    names = ("notes", "process", "host", "reading", "simulator", "state", "task", "wire")
    done = run(f"import importlib\nfor name in {names}: importlib.import_module(f'envs.alfworld.thor.{{name}}')")
    assert done.returncode == 0, done.stderr
