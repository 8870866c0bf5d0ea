"""Write the dashboards into a folder, and remove those that are no more."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from egresslens.grafana import dashboards

folder = Path(sys.argv[1])
for path in folder.glob("*.json"):
    path.unlink()
for uid, dashboard in dashboards().items():
    (folder / f"{uid}.json").write_text(json.dumps(dashboard, indent=2) + "\n")
