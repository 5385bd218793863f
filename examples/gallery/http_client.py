"""Quotes completed over HTTP.

Any language that speaks HTTP and JSON can ask a server. `volvae serve` starts one; `/reference` on it lists the routes.
The answer has the numbers that the model gives in Python.
"""

import json
import socket
import subprocess
import time
import urllib.request

import matplotlib.pyplot as plt
import numpy as np

with socket.create_server(("127.0.0.1", 0)) as free:
    PORT = free.getsockname()[1]
ADDRESS = f"http://127.0.0.1:{PORT}"
command = ["volvae", "serve", "--model", "demo/bundle", "--port", str(PORT)]
server = subprocess.Popen(command, stderr=subprocess.DEVNULL)


def ask(route: str, body: dict[str, object] | None = None) -> dict:
    """The answer of a route, to a question in JSON if there is one."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(ADDRESS + route, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read() or "{}")


def wait() -> None:
    """Until the server has loaded the model."""
    for _ in range(600):
        try:
            ask("/v2/health/ready")
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"no server at {ADDRESS}")


try:
    wait()
    k, days = [-0.1, 0.0, 0.06, 0.0], [30, 30, 30, 365]
    vols = [0.216, 0.173, 0.146, 0.185]
    found = ask("/complete", {"iv": vols, "tenor": [each / 365 for each in days], "log_moneyness": k})
finally:
    server.terminate()
    server.wait()

nodes, tenors = np.array(found["grid"]["nodes"]), np.array(found["grid"]["tenors"])
surface = 100 * np.array(found["iv"])
figure, axes = plt.subplots()
for row in (1, 3, 6):
    axes.plot(nodes * np.sqrt(tenors[row]), surface[row], label=f"{365 * tenors[row]:.0f} days")
axes.plot(k, 100 * np.array(vols), "o", color="C4", label="quotes")
axes.set(xlabel="log-moneyness ln(K/F)", ylabel="vol, %")
axes.legend()
figure.savefig("http_client.svg")
print(f"cause: {found['cause']}, share of held-out surfaces that fit worse: {found['p_value']:.0%}")
