"""What all tests share: where programs are found, what surrounds them, how Hypothesis searches."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

# Debian keeps servers (smbd, krb5kdc) out of an ordinary user's PATH, Ubuntu its chromium.
os.environ["PATH"] = os.pathsep.join(
    [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin", "/snap/bin"]
)

# Whoever starts the tests decides nothing: Samba's account must read what they make, and
# programs are to say what they say in English. A job in the background ignores Ctrl-C, and
# so would every program that it starts.
os.umask(0o022)
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["LC_ALL"] = "C.UTF-8"
for name in ("LANGUAGE", "COLUMNS", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
    os.environ.pop(name, None)

# The same examples in each run: whether a change may land is no matter of luck. ``thorough``
# searches anew each time, for minutes. No deadline and no bound for making examples: the
# machine may be busy, and no test here measures time.
settings.register_profile(
    "centcert",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "thorough",
    deadline=None,
    derandomize=False,
    max_examples=2_000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "centcert"))
