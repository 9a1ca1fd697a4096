"""`python -m mithril`: the same as the command `mithril`."""

from mithril import cli

if __name__ == "__main__":
    cli.main()
