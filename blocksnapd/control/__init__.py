"""ASK: the operator's side of the daemon: control socket and metrics."""
