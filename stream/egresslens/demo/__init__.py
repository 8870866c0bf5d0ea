"""The demo: a small mesh on loopback, with the real Envoy, and the whole pipeline behind it.

Pods have addresses of their own inside 127.0.0.0/8 and each has a sidecar Envoy, configured as istiod
configures it. What Linux and iptables do in a pod (send the application's connections to the sidecar and keep
the address it wanted) is done here by a PROXY protocol header in front of each connection: Envoy restores the
wanted address from it exactly as from SO_ORIGINAL_DST. Nothing outside 127.0.0.0/8 is ever contacted.

`plan` is what exists and what is sent, `config` what Envoy is told, `servers` and `client` the two ends of
the traffic, `mesh` runs them, `truth` knows what must come out, `report` asks ClickHouse and compares,
`run` starts and stops everything.
"""
