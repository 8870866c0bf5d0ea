"""The answers from what is stored: who calls what, which databases, which regions, what was blocked.

`period` decides what is read, `ask` asks the store, `shape` turns the answer into text. The statements are in
`schemas/clickhouse/report.sql`, once for these reports and for the views.
"""

from egresslens.report.ask import REPORTS, Answer, Selection, ask
from egresslens.report.period import Period, Tier, period

__all__ = ["REPORTS", "Answer", "Period", "Selection", "Tier", "ask", "period"]
