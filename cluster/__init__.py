"""Configs, command line, placement, driver, supervision, metrics and launch files: the only home of Ray.

May import every other package; nothing imports `cluster` except the tests. This file imports nothing, so that
light commands (`python -m cluster.cpu_setup`) run before the heavy dependencies are usable.
"""
