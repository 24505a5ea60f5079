"""Tests of `learner.tiny`."""
