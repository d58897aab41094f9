"""The textbook recipe, word for word but for the import: a photograph in 64 colours, and its elbow.

Run it anywhere: it makes photo.jpg, writes textbook.png and prints WCSS for k = 1..10.
"""

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_sample_image

from gpu_kmeans import KMeans  # was: from sklearn.cluster import KMeans

Image.fromarray(load_sample_image("china.jpg")[::2, ::2]).save("photo.jpg", quality=95)

photo = Image.open("photo.jpg")
pixels = np.array(photo).reshape(-1, 3)  # (height * width, 3)
model = KMeans(n_clusters=64, init="k-means++", n_init=10, max_iter=20, random_state=0)
labels = model.fit_predict(pixels)
picture = model.cluster_centers_[labels].round().astype("uint8")
picture = picture.reshape(photo.height, photo.width, 3)

ks = range(1, 11)
wcss = [KMeans(n_clusters=k, random_state=0).fit(pixels).inertia_ for k in ks]
for k, value in zip(ks, wcss, strict=True):
    print(f"{k:3d} {value:14.0f}")

figure = Figure(figsize=(10, 3.2), layout="constrained")
before, after, curve = figure.subplots(1, 3)
for axes, image, title in ((before, photo, "before"), (after, picture, "64 colours")):
    axes.imshow(image)
    axes.set_title(title)
    axes.axis("off")
curve.plot(ks, wcss, marker="o")
curve.spines[["top", "right"]].set_visible(False)
curve.set(title="the elbow", xlabel="k", ylabel="WCSS")
figure.savefig("textbook.png", dpi=100)
