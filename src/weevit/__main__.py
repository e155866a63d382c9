"""`python -m weevit`."""

from weevit.cli.app import entry

if __name__ == "__main__":
    entry()
