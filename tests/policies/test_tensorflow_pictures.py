"""What TensorFlow makes of the pictures of OpenVLA's evaluations: the hashes of `libero_evaluations.py` anew.

TensorFlow lives in an environment of its own. Needs a package index: `pytest -m network tests/policies`.
"""

import json
import subprocess
import venv

import numpy as np
import pytest
from tests.policies import libero_evaluations as reference

pytestmark = [pytest.mark.network, pytest.mark.slow]

PACKAGE = "tensorflow-cpu==2.21.0"

CODE = """
import hashlib, json, sys
import numpy, tensorflow as tf
found = {}
for name, image in numpy.load(sys.argv[1]).items():
    decoded = tf.io.decode_image(tf.image.encode_jpeg(image), expand_animations=False, dtype=tf.uint8)
    small = tf.image.resize(decoded, (224, 224), method="lanczos3", antialias=True)
    small = tf.cast(tf.clip_by_value(tf.round(small), 0, 255), tf.uint8)
    side = tf.reshape(tf.sqrt(0.9), (1,))
    box = tf.stack([(1 - side) / 2] * 2 + [(1 - side) / 2 + side] * 2, axis=1)
    cropped = tf.image.crop_and_resize(
        tf.image.convert_image_dtype(small, tf.float32)[None], box, [0], (224, 224)
    )[0]
    cropped = tf.image.convert_image_dtype(tf.clip_by_value(cropped, 0, 1), tf.uint8, saturate=True)
    images = (decoded, small, cropped)
    found[name] = [hashlib.sha256(one.numpy().tobytes()).hexdigest()[:16] for one in images]
print(json.dumps(found))
"""


def test_the_hashes_are_tensorflows(request, tmp_path):
    folder = request.config.cache.mkdir("tensorflow")
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", PACKAGE], check=True)
    np.savez(tmp_path / "seen.npz", **{name: reference.seen(name) for name in reference.IMAGES})
    done = subprocess.run(
        [python, "-c", CODE, tmp_path / "seen.npz"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert {name: tuple(hashes) for name, hashes in found.items()} == reference.TENSORFLOW
