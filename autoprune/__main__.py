"""``python -m autoprune`` is the console script."""

from autoprune.entry import main

if __name__ == "__main__":
    raise SystemExit(main())
