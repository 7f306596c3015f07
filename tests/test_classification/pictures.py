"""JPEGs of every kind, drawn."""

import struct

import cv2
import numpy as np

SAMPLINGS = {
    '4:4:4': cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    '4:2:2': cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    '4:2:0': cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
}


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Coloured patches with some noise: shifting it by a pixel changes it much."""
    rng = np.random.default_rng(height * width)
    patches = rng.integers(0, 256, (height // 12 + 1, width // 12 + 1, channels), dtype=np.uint8)
    large = cv2.resize(patches, (width, height), interpolation=cv2.INTER_NEAREST)
    noise = rng.integers(-12, 12, (height, width, channels))
    return np.clip(large.reshape(noise.shape) + noise, 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, sampling: str = '4:2:0', progressive: bool = False) -> bytes:
    options = {
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR: SAMPLINGS[sampling],
        cv2.IMWRITE_JPEG_PROGRESSIVE: int(progressive),
    }
    return cv2.imencode('.jpg', image, [v for item in options.items() for v in item])[1].tobytes()


def with_orientation(data: bytes, orientation: int, order: str = '>') -> bytes:
    """Insert an EXIF segment with an orientation behind another tag."""
    tiff = {'>': b'MM', '<': b'II'}[order] + struct.pack(order + 'HIH', 42, 8, 2)
    tiff += struct.pack(order + 'HHIHH', 0x0100, 3, 1, 77, 0)
    tiff += struct.pack(order + 'HHIHH', 0x0112, 3, 1, orientation, 0) + bytes(4)
    segment = b'Exif\0\0' + tiff
    return data[:2] + b'\xff\xe1' + struct.pack('>H', len(segment) + 2) + segment + data[2:]


def decode(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
