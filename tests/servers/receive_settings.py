"""The settings of a receiver under test: fill in tcp_port, root, ca, cert, key and more."""

SETTINGS = """\
schema = 1
[receive]
listen = ["127.0.0.1:{tcp_port}"]
root = "{root}"
reserve = "1 MiB"
[pki]
ca = "{ca}"
cert = "{cert}"
key = "{key}"
[defaults]
{more}
"""
