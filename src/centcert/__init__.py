"""Centcert: a central certificate store for any web farm."""

__version__ = "0.1.0"
