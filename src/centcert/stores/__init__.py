"""Where blobs live: one kind of store a module, all under one contract."""

from centcert.credential import MAX_BLOB_BYTES
from centcert.stores.account import Account
from centcert.stores.base import Blob, Change, Store, StoredFile
from centcert.stores.folder import FolderStore
from centcert.stores.memory import MemoryStore
from centcert.stores.publishing import Publisher
from centcert.stores.urls import open_publisher, open_store

__all__ = [
    "MAX_BLOB_BYTES",
    "Account",
    "Blob",
    "Change",
    "FolderStore",
    "MemoryStore",
    "Publisher",
    "Store",
    "StoredFile",
    "open_publisher",
    "open_store",
]
