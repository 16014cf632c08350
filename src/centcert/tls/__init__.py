"""The ClientHello and TLS over memory BIOs: no sockets."""
