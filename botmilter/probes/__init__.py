"""The probes, one file each: ways to look at a host.  docs/adding-a-probe.md says how to add one."""
