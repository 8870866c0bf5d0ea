"""`python granted_store.py USERS.XML ACCOUNT FOLDER`: a store in which all may do only what ACCOUNT may.

The engine enforces the grants of compose/clickhouse/users.xml on every statement, as a server would.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from egresslens.store import engine
from egresslens.store.serve import serve

if __name__ == "__main__":
    users, account, folder = sys.argv[1:]
    granted = ET.parse(users).iterfind(f"users/{account}/grants/query")
    # The store also demands grants for table engines, which a server does not by default.
    engines = [grant for grant in engine.ACCESS if grant.startswith("GRANT TABLE ENGINE")]
    engine.ACCESS = (*(grant.text for grant in granted), *engines)
    serve(Path(folder), "127.0.0.1", 0, (), with_parent=True, announce=lambda line: print(line, flush=True))
