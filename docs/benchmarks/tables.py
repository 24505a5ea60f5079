"""Put the tables of all results into the README beside this file: `python -m docs.benchmarks.tables`."""

from __future__ import annotations

import re
from pathlib import Path

from cluster.bench.result import BenchResult
from cluster.bench.tables import markdown

HERE = Path(__file__).parent
README = HERE / "README.md"


def filled(text: str) -> str:
    """The text with a table between every `<!-- NAME.json -->` and the `<!-- end -->` that follows.

    A place whose result is not there stays as it is.
    """

    def table(match: re.Match[str]) -> str:
        if not (HERE / match[1]).is_file():
            return match[0]
        result = BenchResult.model_validate_json((HERE / match[1]).read_text())
        return f"<!-- {match[1]} -->\n\n{markdown(result)}\n<!-- end -->"

    return re.sub(r"<!-- (\S+\.json) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
