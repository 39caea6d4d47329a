#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Takes memory, 16 MiB at a time, and writes to all of it."""
import guard  # noqa: F401

hoard = []
while True:
    hoard.append(bytearray(b"x") * (16 << 20))
    print(f"{16 * len(hoard)} MiB", flush=True)
