"""The benchmark suite: what things cost, measured side by side, printed as tables and written as JSON.

`result` is the vocabulary, `registry` names the benchmarks, `suite` runs them; each benchmark is one module (or a few
that begin with its name). A benchmark fails when it crashes, never because a number is low.
"""
