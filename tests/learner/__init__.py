"""Tests of `learner`."""
