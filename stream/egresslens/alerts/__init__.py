"""Alerts: incidents found in the windows topic, kept in ClickHouse, told to whoever should know.

`rules` is what people decide, `detect` finds hits in window rows, `book` makes incidents of hits: these are
pure. `history` asks and keeps in ClickHouse, `deliver` tells the receivers, `app` is the Faust agent.
"""
