"""Calling the API with httpx: python examples/call_api.py [http://127.0.0.1:8000].

Start the service first (`make run`). Sends a photograph and points, and writes call_api.png.
"""

import base64
import io
import sys
from pathlib import Path

import httpx
from PIL import Image
from sklearn.datasets import load_sample_image

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
photo = io.BytesIO()
Image.fromarray(load_sample_image("flower.jpg")).save(photo, "JPEG", quality=92)

with httpx.Client(base_url=url, timeout=60) as client:
    response = client.post("/compress", params={"k": 24}, files={"file": photo.getvalue()})
    answer = response.raise_for_status().json()
    Path("call_api.png").write_bytes(base64.b64decode(answer["image"]["data"]))
    print(
        f"{answer['input']['unique_colors']} colours -> {answer['k']}, {answer['psnr_db']:.1f} dB"
    )
    print("most frequent:", max(answer["palette"], key=lambda entry: entry["count"])["hex"])

    points = [[0, 0], [1, 0], [0, 1], [9, 9], [9, 8]]
    clusters = client.post("/cluster", json={"points": points, "k": 2, "metric": "cityblock"})
    print("labels:", clusters.raise_for_status().json()["labels"])

    refused = client.post("/cluster", json={"points": points, "k": 99})
    print(refused.status_code, refused.json()["code"], "-", refused.json()["detail"])
