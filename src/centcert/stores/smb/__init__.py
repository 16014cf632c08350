"""A share of one or several SMB 3.1.1 file servers as a store."""

from centcert.stores.smb.address import Address, Location
from centcert.stores.smb.publisher import SmbPublisher
from centcert.stores.smb.server import Timing
from centcert.stores.smb.store import SmbStore

__all__ = ["Address", "Location", "SmbPublisher", "SmbStore", "Timing"]
