"""Let `python -m hybridqa` do what the `hybridqa` command does."""

from hybridqa.cli import main

if __name__ == "__main__":
    main()
