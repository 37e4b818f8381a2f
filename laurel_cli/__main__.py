"""`python -m laurel_cli` is `laurel`."""

from laurel_cli.cli.main import run

if __name__ == "__main__":
    run()
