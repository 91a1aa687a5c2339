"""RunPod's own server for a handler, without the gateway that would stand before it.

runpod_local.py --rp_serve_api --rp_api_port PORT
"""

import runpod


def handler(job):
    return {"text": job["input"]["text"]}


runpod.serverless.start({"handler": handler})
