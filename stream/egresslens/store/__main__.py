"""`python -m egresslens.store`: what `process` starts."""

from egresslens.cli.store import command

command()
