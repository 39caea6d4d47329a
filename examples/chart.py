# SPDX-License-Identifier: Apache-2.0
"""A chart from the code interpreter, over plain HTTP: what an agent's tool call looks like on the wire.

    chart.py URL KEY TEMPLATE FILE.png

A sandbox is created, two cells run in one interpreter (the second uses what the first computed), the figure
comes back as PNG, and the sandbox is killed.
"""

import base64
import json
import sys
import urllib.request

FIRST = """
import csv, io
rows = [("Mon", 12), ("Tue", 19), ("Wed", 7), ("Thu", 23), ("Fri", 17)]
total = sum(n for _, n in rows)
total
"""
SECOND = """
import matplotlib.pyplot as plt
plt.bar([d for d, _ in rows], [n for _, n in rows])
plt.title(f"{total} trips")
plt.show()
"""


def call(method, url, body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers}, method=method)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.read()


def main(url, key, template, path):
    box = json.loads(call("POST", f"{url}/v2/sandboxes", {
        "templateID": template, "timeout": 120, "metadata": {"brig.interpreter": "python"},
        # Debian's matplotlib has its settings below /etc, which the host image does not show.
        "envVars": {"MATPLOTLIBRC": "/dev/null"}}, X_API_KEY=key))
    # One address for everything: these two headers say which sandbox, and which service in it, is meant.
    route = {"E2b_Sandbox_Id": box["sandboxID"], "E2b_Sandbox_Port": "49999",
             "X_Access_Token": box["envdAccessToken"]}
    png = None
    try:
        for code in (FIRST, SECOND):
            for line in call("POST", f"{url}/execute", {"code": code}, **route).splitlines():
                event = json.loads(line)
                if event["type"] == "error":
                    raise SystemExit(f"{event['name']}: {event['value']}")
                if event["type"] == "result":
                    print("result:", event.get("text", ""), *(k for k in ("png", "chart") if k in event))
                    png = event.get("png", png)
    finally:
        call("DELETE", f"{url}/sandboxes/{box['sandboxID']}", X_API_KEY=key)
    if not png:
        raise SystemExit("no figure came back")
    with open(path, "wb") as out:
        out.write(base64.b64decode(png))


if __name__ == "__main__":
    main(*sys.argv[1:])
