"""`python -m cluster ...` is the command `croupier ...`, without an install (as in `ray job submit`)."""

from cluster.cli import main

if __name__ == "__main__":
    main()
