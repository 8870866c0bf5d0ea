"""The embedded store: the ClickHouse engine (chdb) in its own process, behind ClickHouse's HTTP interface.

`engine` owns the data directory, `guard` decides what SQL may run, `server` speaks HTTP, `process` starts
all of it as a child process.
"""
