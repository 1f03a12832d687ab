"""`billing-stream completion`: what makes a shell complete our commands and options."""

import click
from click.shell_completion import get_completion_class

from billing_stream.console.help import help_epilog

PROGRAM = "billing-stream"
SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog=help_epilog(
        {0: "printed", 2: "no such shell"},
        'eval "$(billing-stream completion bash)"   # in ~/.bashrc',
        'eval "$(billing-stream completion zsh)"    # in ~/.zshrc, after compinit',
        "billing-stream completion fish | source     # in ~/.config/fish/config.fish",
        environment=None,
    )
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell: bash (4.4 or newer), zsh or fish.

    What it completes is asked of the installed billing-stream at each key press, so the
    script need not be made again after an upgrade.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click cannot complete in {shell}")
    root = context.find_root().command
    click.echo(kind(root, {}, PROGRAM, "_BILLING_STREAM_COMPLETE").source())
