"""A batch of pictures of any sizes in one call, each with its own 12 colours.

Writes batch.png: the pictures above what became of them.
"""

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from gpu_kmeans import quantize_batch

china, flower = load_sample_images().images
pictures = [china[:300, :300], flower[50:350, 200:500], china[127:427, 200:560], flower[::2, ::2]]
pictures = [np.ascontiguousarray(picture) for picture in pictures]

results = quantize_batch(pictures, k=12, dither=0.5)

for picture, result in zip(pictures, results, strict=True):
    h, w, _ = picture.shape
    print(f"{h} x {w}: {result.unique_colors} colours -> {result.k}, {result.psnr_db:.1f} dB")

height, width = 300, sum(picture.shape[1] for picture in pictures)
sheet = Image.new("RGB", (width, 2 * height), "white")
left = 0
for picture, result in zip(pictures, results, strict=True):
    sheet.paste(Image.fromarray(picture), (left, 0))
    sheet.paste(Image.fromarray(result.to_pixels()), (left, height))
    left += picture.shape[1]
sheet.save("batch.png", optimize=True)
