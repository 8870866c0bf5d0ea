"""Doctor: look at every part of a deployment, and say what to do about what is wrong.

Each check is a function of what it looks at (an admin client, a client of the store, a sample of messages)
that gives `Finding`s; it knows no other check. `run.diagnose` asks the servers, each check in its own thread
and within its own time, so that a dead server takes nobody else's time.
"""

from egresslens.doctor.finding import Finding, Status
from egresslens.doctor.run import diagnose

__all__ = ["Finding", "Status", "diagnose"]
