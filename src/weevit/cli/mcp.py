"""`weevit mcp`: classify, embed, explain and check as tools for programs that speak MCP."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from weevit.cli import options


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FOLDERS...")
@click.option("--index", type=click.Path(path_type=Path), help="An index of images (weevit index) to search.")
@options.loading_to_index
@options.verbose
def mcp(folders: tuple[Path, ...], index: Path | None, loading: options.Loading) -> int:
    """Offer tools for assistants over MCP, on stdin and stdout.

    They read images in FOLDERS and nothing else.

    Clients start this command themselves. Links and `..` are refused, and nothing is written. With --index the tool
    `search` finds similar images, by default with the model of the index.
    """
    from weevit.serve.folders import Folders
    from weevit.store.extras import needed

    needed("mcp", "mcp", "Tools over MCP need mcp, which is not installed.")
    allowed = Folders(folders)

    from weevit.cli.answers import load_model, loading_of_index
    from weevit.search.index import open_index
    from weevit.serve.mcp import mcp_server

    if not loading.model:
        default = replace(loading, model=options.DEFAULT_MODEL)
        loading = default if index is None else loading_of_index(open_index(index).space.recorded(), loading)
    mcp_server(load_model(loading, quiet=True), allowed, index).run("stdio")
    return 0
