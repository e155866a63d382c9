"""The `weevit` command: verbs, error output, exit codes.

Exit codes: 0 done; 1 nothing could be answered, or a gate failed; 2 usage; 3 some inputs failed under --strict;
130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import traceback
import warnings
from importlib import import_module

import click

from weevit._version import __version__
from weevit.cli.console import screened, tell
from weevit.errors import UsageError, WeevitError, nearest
from weevit.text import one_line

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

VERBS = (
    *("models", "info", "classify", "embed", "features", "explain", "jobs"),
    *(
        "index",
        "search",
        "data",
        "dedup",
        "fit",
        "eval",
        "compare",
        "quantize",
        "recipe",
        "train",
        "finetune",
        "resume",
    ),
    *("serve", "mcp", "bench", "doctor"),
)
"""Every verb is a function in the module of the same name, which is imported on demand."""


class _Verbs(click.Group):
    """A group whose commands are modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"weevit.cli.{cmd_name}"), cmd_name)
        return command


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="weevit", message="%(prog)s %(version)s")
def cli() -> None:
    """timm's small SBB Vision Transformers: answers without PyTorch, numerically equal to timm."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; tracebacks are shown only with -v."""
    # Pillow's warnings about odd metadata do not concern a user who asks for classes.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # Arrow's own allocator (mimalloc) takes 14 MB to write a shard of 0.4 MB.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    with screened():
        code = _run(sys.argv[1:] if arguments is None else arguments)
    sys.exit(code)


def entry() -> None:
    """The `weevit` program: `main` without the cleanup of a process that ends anyway (0.09 s: a seventh of it)."""
    _open_closed()
    try:
        main()
    except SystemExit as ended:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(ended.code if isinstance(ended.code, int) else EXIT_FAILED)


def _open_closed() -> None:
    """Lead a closed stdout or stderr (`>&-`, some services) nowhere: the next file opened would get its number."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, "w"))


def _run(words: list[str]) -> int:
    verbose = "-v" in words or "--verbose" in words
    try:
        _check_verb(words)
        code = _invoke(words)
        sys.stdout.flush()
        return code
    except (KeyboardInterrupt, click.Abort):
        tell("", "Interrupted.")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `weevit models | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except click.exceptions.NoArgsIsHelpError as error:  # `weevit`, `weevit jobs`
        tell(*error.format_message().split("\n"))
        return error.exit_code
    except Exception as error:
        if verbose:
            traceback.print_exc()
        message, code = _explain(error, words)
        tell(*f"weevit: {_unbroken(message, words)}".split("\n"))
        return code


def _invoke(words: list[str]) -> int:
    """Run the verb. click's own `main` would end with 1 where a reader of stdout has seen enough."""
    try:
        with cli.make_context("weevit", list(words)) as context:
            code = cli.invoke(context)
    except click.exceptions.Exit as ended:  # --help, --version
        return ended.exit_code
    return code if isinstance(code, int) else 0


def _check_verb(words: list[str]) -> None:
    verb = words[0] if words else "--help"
    if verb in VERBS or verb.startswith("-"):
        return
    near = nearest(verb, VERBS, count=1)
    if not near:
        raise UsageError(f"No verb {verb!r}.", f"There are: {', '.join(VERBS)}.")
    command = shlex.join(["weevit", near[0], *words[1:]])
    raise UsageError(f"No verb {verb!r}.", f"Did you mean {near[0]!r}?   {command}")


def _unbroken(message: str, words: list[str]) -> str:
    """The message with line feeds of typed words escaped: only our own begin a line."""
    for part in {part for word in words if "\n" in word for part in re.split("[/=]", word)}:
        if part.strip():
            message = message.replace(part, one_line(part))
    return message


def exit_code(kind: type[WeevitError]) -> int:
    """The exit code for an error of this class."""
    return EXIT_USAGE if issubclass(kind, UsageError) else EXIT_FAILED


def _explain(error: Exception, words: list[str]) -> tuple[str, int]:
    """The message and the exit code of an error."""
    if isinstance(error, WeevitError):
        return str(error), exit_code(type(error))
    if isinstance(error, click.ClickException):  # a missing argument, an unknown option
        command = " ".join(["weevit", *[word for word in words[:1] if word in VERBS], "--help"])
        return f"{error.format_message()}\n{command}", error.exit_code
    if isinstance(error, OSError):  # stdout is a full disk, for instance
        return str(error), EXIT_FAILED
    return (
        f"a mistake of ours: {type(error).__name__}: {error}\n"
        "Please report it, with what -v prints and what `weevit doctor` says.",
        EXIT_FAILED,
    )
