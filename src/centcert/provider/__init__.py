"""What answers names with credentials: memory and policy, and the asyncio shell around them."""

from centcert.provider.cache import CacheLimits
from centcert.provider.provider import Provider

__all__ = ["CacheLimits", "Provider"]
