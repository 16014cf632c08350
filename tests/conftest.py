"""What all tests share: where programs are found, and how Hypothesis searches."""

from __future__ import annotations

import os

from hypothesis import settings

# Debian keeps servers (smbd, krb5kdc) out of an ordinary user's PATH, Ubuntu its chromium.
os.environ["PATH"] = os.pathsep.join(
    [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin", "/snap/bin"]
)

# No deadline: the machine may be busy, and no test here measures time.
settings.register_profile("centcert", deadline=None)
settings.register_profile("thorough", deadline=None, max_examples=2_000)  # minutes, not seconds
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "centcert"))
