"""Ray Serve with its fast proxy (HAProxy), as its documentation sets it up for throughput.

ray_serve.py PORT
"""

import os
import signal
import sys

PORT = int(sys.argv[1])
os.environ["RAY_SERVE_ENABLE_HA_PROXY"] = "1"
os.environ["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray  # noqa: E402
from ray import serve  # noqa: E402


@serve.deployment(max_ongoing_requests=1000)
class Echo:
    async def __call__(self, request):
        content = await request.json()
        return {"text": content["text"]}


ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": PORT})
serve.run(Echo.bind(), route_prefix="/")
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
try:
    signal.pause()
finally:
    serve.shutdown()
    ray.shutdown()
