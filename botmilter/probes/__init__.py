"""The probes: one file for each way to look at a host.  How to add one: docs/adding-a-probe.md."""
