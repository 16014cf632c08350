"""The listeners, the relay to the backend, and their limits."""

from centcert.frontend.addresses import Backend, TcpAddress
from centcert.frontend.frontend import FrontEnd
from centcert.frontend.listener import AppListener, Limits, Listener, Site

__all__ = ["AppListener", "Backend", "FrontEnd", "Limits", "Listener", "Site", "TcpAddress"]
