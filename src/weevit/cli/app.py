"""The `weevit` command: verbs, how errors are shown, exit codes.

Exit codes: 0 done; 1 nothing could be answered, or a gate failed; 2 usage; 3 some inputs failed under --strict;
130 interrupted.
"""

from __future__ import annotations

import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from weevit._version import __version__
from weevit.cli.classify import classify
from weevit.cli.doctor import doctor
from weevit.cli.embed import embed
from weevit.cli.features import features
from weevit.cli.info import info
from weevit.cli.models import models
from weevit.errors import UsageError, WeevitError, nearest

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

VERBS: dict[str, Callable[..., Any]] = {
    "models": models,
    "info": info,
    "classify": classify,
    "embed": embed,
    "features": features,
    "doctor": doctor,
}
"""Every verb. Its function's signature is its options; what is heavy is imported inside it."""


def build_app() -> typer.Typer:
    """The verbs as one typer application."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name, function in VERBS.items():
        app.command(name)(function)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"weevit {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """timm's small SBB Vision Transformers: answers without PyTorch, numerically equal to timm."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; no traceback ever reaches the user unless -v asks for it."""
    # What Pillow thinks of odd metadata is no news for a person who asked what is in the picture.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(words: list[str]) -> int:
    try:
        _check_verb(words)
        code = build_app()(args=words, standalone_mode=False)
        sys.stdout.flush()
        if code == EXIT_INTERRUPTED:  # typer turns Ctrl-C into this
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except WeevitError as error:
        return _show(error, words, EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED)
    except (KeyboardInterrupt, typer.Abort):
        print("\nInterrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `weevit models | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # stdout is a full disk, for instance
        print(f"weevit: {error}", file=sys.stderr)
        return EXIT_FAILED
    except Exception as error:  # of the command line itself, or a mistake of ours
        return _show_other(error, words)


def _check_verb(words: list[str]) -> None:
    verb = words[0] if words else "--help"
    if verb in VERBS or verb.startswith("-"):
        return
    near = nearest(verb, VERBS, count=1)
    if not near:
        raise UsageError(f"No verb {verb!r}.", f"There are: {', '.join(VERBS)}.")
    command = shlex.join(["weevit", near[0], *words[1:]])
    raise UsageError(f"No verb {verb!r}.", f"Did you mean {near[0]!r}?   {command}")


def _show(error: WeevitError, words: list[str], code: int) -> int:
    if _verbose(words):
        traceback.print_exc()
    print(f"weevit: {error}", file=sys.stderr)
    return code


def _show_other(error: Exception, words: list[str]) -> int:
    if hasattr(error, "format_message"):  # typer's own: a missing argument, an unknown option
        verb = words[0] if words and words[0] in VERBS else ""
        print(f"weevit: {error.format_message()}\nweevit {verb} --help".replace("  ", " "), file=sys.stderr)
        return int(getattr(error, "exit_code", EXIT_USAGE))
    if _verbose(words):
        traceback.print_exc()
    print(
        f"weevit: a mistake of ours: {type(error).__name__}: {error}\n"
        "Please report it, with what -v prints and what `weevit doctor` says.",
        file=sys.stderr,
    )
    return EXIT_FAILED


def _verbose(words: list[str]) -> bool:
    return "-v" in words or "--verbose" in words
