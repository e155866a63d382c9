"""`weevit mcp`: classify, embed, explain and check as tools for programs that speak MCP."""

from __future__ import annotations

from pathlib import Path

import click

from weevit.cli import options


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FOLDERS...")
@options.loading
@options.verbose
def mcp(folders: tuple[Path, ...], loading: options.Loading) -> int:
    """Offer tools over MCP on stdin and stdout, which read images in FOLDERS and nothing else.

    Clients start this command themselves. Links and `..` are refused, and nothing is written.
    """
    from weevit.serve.folders import Folders
    from weevit.store.extras import needed

    needed("mcp", "mcp", "Tools over MCP need mcp, which is not installed.")
    allowed = Folders(folders)

    from weevit.cli.answers import load_model
    from weevit.serve.mcp import mcp_server

    mcp_server(load_model(loading, quiet=True), allowed).run("stdio")
    return 0
