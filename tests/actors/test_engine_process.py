import logging
import logging.config
import multiprocessing
import os
import signal
import time

import psutil

from actors.engine_process import ChildWatch, EngineLog, child_environment


def _sleep() -> None:
    time.sleep(60)


def _start_child() -> multiprocessing.Process:
    child = multiprocessing.get_context("fork").Process(target=_sleep, name="Core", daemon=True)
    child.start()
    return child  # type: ignore[return-value]


def test_children_from_before_are_left_alone():
    earlier = _start_child()
    watch = ChildWatch()
    own = _start_child()
    assert watch.process_ids() == (own.pid,)
    watch.kill(timeout_s=5)
    assert earlier.is_alive() and own.pid is not None and not psutil.pid_exists(own.pid)
    earlier.kill()
    earlier.join()


def test_a_killed_child_is_reported_with_its_code():
    watch = ChildWatch()
    child = _start_child()
    assert watch.exit_report() == ""
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join(5)
    assert watch.exit_report() == "Core ended with code -9 (killed; often for lack of memory)"
    assert watch.process_ids() == ()


def test_the_environment_holds_for_the_block_alone(monkeypatch):
    monkeypatch.setenv("KEPT", "before")
    monkeypatch.setenv("TAKEN", "away")
    monkeypatch.delenv("ADDED", raising=False)
    with child_environment({"KEPT": "inside", "TAKEN": None, "ADDED": "1"}):
        assert (os.environ["KEPT"], os.environ.get("TAKEN"), os.environ["ADDED"]) == ("inside", None, "1")
        os.environ["LEFT_BEHIND"] = "by a library"
    assert (os.environ["KEPT"], os.environ["TAKEN"]) == ("before", "away")
    assert "ADDED" not in os.environ and "LEFT_BEHIND" not in os.environ


LOG = """\
2026 12 ERROR Invocation of add_lora method failed
ValueError: rank 99 is too large
2026 12 ERROR EngineCore encountered a fatal error.
Traceback (most recent call last):
  File "core.py", line 1, in step
torch.OutOfMemoryError: CUDA out of memory
2026 11 ERROR output handler failed
EngineDeadError: see above
"""


def test_the_cause_is_the_first_error_behind_the_fatal_line():
    log = EngineLog("engine")
    log.path.write_text(LOG)
    assert log.cause() == "torch.OutOfMemoryError: CUDA out of memory"
    assert log.tail().endswith("EngineDeadError: see above")
    log.close()
    assert not log.path.exists() and (log.cause(), log.tail()) == ("", "")


def test_an_error_that_killed_nothing_is_no_cause():
    log = EngineLog("engine")
    log.path.write_text("".join(LOG.splitlines(keepends=True)[:2]))
    assert log.cause() == ""
    log.close()


def test_the_logging_file_is_one_that_python_understands():
    log = EngineLog("engine-under-test")
    import json

    logging.config.dictConfig(json.loads(log.config_path.read_text()))
    logging.getLogger("engine-under-test.core").error("a line")
    assert log.tail().endswith("ERROR a line")
    for handler in logging.getLogger("engine-under-test").handlers:
        handler.close()
    log.close()
