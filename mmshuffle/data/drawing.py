"""Pictures of objects on photograph-like backgrounds, drawn from a random number generator.

Five classes that differ in their outline, in what is inside it and in their usual colour. Objects
come in many sizes, turned, lit from any side, textured, in front of one another and cut off by the
border. Nothing but numpy and OpenCV is needed.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

CLASSES = ('ball', 'box', 'sign', 'star', 'ring')

# Usual hue of each class in degrees, and its spread: as with fruit or traffic signs, colour tells
# most of the kind. Without it a network that starts from nothing needs more than minutes.
HUES = {'ball': 0.0, 'box': 35.0, 'sign': 220.0, 'star': 285.0, 'ring': 120.0}
HUE_SPREAD = 15.0

# Extent in pixels along the longer axis, at 320x240; drawn uniformly in the logarithm.
SIZES = (24.0, 150.0)
OBJECTS = (2, 8)

# Share of the objects that seek the neighbourhood of another one.
CROWDING = 0.3

# Every object drawn is a box in the annotations, so none may be hidden beyond recognition.
MIN_VISIBLE = 0.45
MIN_INSIDE = 0.4
MIN_PIXELS = 40

# Fractional bits of the coordinates that OpenCV takes.
SHIFT = 4


@dataclass
class Scene:
    """A drawn picture and what is on it."""

    image: np.ndarray  # BGR, (height, width, 3), uint8
    labels: list[int] = field(default_factory=list)  # of each object, the hindmost first
    # What each object covers, hidden parts included, (height, width), 0 to 1.
    opacities: list[np.ndarray] = field(default_factory=list)
    visible: list[np.ndarray] = field(default_factory=list)  # what is seen of it, likewise

    def masks(self) -> list[np.ndarray]:
        """Return the visible pixels of each object, (height, width), bool."""
        return [visible >= 0.5 for visible in self.visible]


def draw_scene(rng: np.random.Generator, width: int, height: int, zoom: float = 1.0) -> Scene:
    """Draw a picture; ``zoom`` makes its objects larger."""
    # Backgrounds are soft: half the resolution is enough for them, at a quarter of the time.
    canvas = _background(rng, width // 2, height // 2)
    canvas = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_LINEAR)
    scene = Scene(canvas)
    scale = zoom * min(width / 320, height / 240)
    for _ in range(rng.integers(OBJECTS[0], OBJECTS[1] + 1)):
        label = int(rng.integers(len(CLASSES)))
        size = scale * np.exp(rng.uniform(*np.log(SIZES)))
        colours, alpha = _sprite(rng, CLASSES[label], size)
        for _ in range(10):
            if _place(rng, scene, label, colours, alpha):
                break
    scene.image = _photograph(rng, canvas)
    return scene


def _place(
    rng: np.random.Generator, scene: Scene, label: int, colours: np.ndarray, alpha: np.ndarray
) -> bool:
    """Try one place for an object; False, with nothing changed, if too much would be hidden."""
    height, width = scene.image.shape[:2]
    n = len(alpha)
    left, top = _corner(rng, scene, n)
    x, y = slice(max(left, 0), min(left + n, width)), slice(max(top, 0), min(top + n, height))
    if x.start >= x.stop or y.start >= y.stop:  # beside the picture
        return False
    cut = slice(y.start - top, y.stop - top), slice(x.start - left, x.stop - left)
    inside = alpha[cut]
    pixels = np.count_nonzero(inside >= 0.5)
    if pixels < max(MIN_PIXELS, MIN_INSIDE * np.count_nonzero(alpha >= 0.5)):
        return False
    for own, seen in zip(scene.opacities, scene.visible):
        left_over = np.count_nonzero(seen >= 0.5)
        left_over -= np.count_nonzero((seen[y, x] >= 0.5) & (seen[y, x] * (1 - inside) < 0.5))
        if left_over < max(MIN_PIXELS, MIN_VISIBLE * np.count_nonzero(own >= 0.5)):
            return False

    _shadow(rng, scene.image, alpha, left, top)
    region = scene.image[y, x]
    region += inside[..., None] * (colours[cut] - region)
    for seen in scene.visible:
        seen[y, x] *= 1 - inside
    opacity = np.zeros((height, width), np.float32)
    opacity[y, x] = inside
    scene.labels.append(label)
    scene.opacities.append(opacity)
    scene.visible.append(opacity.copy())
    return True


def _corner(rng: np.random.Generator, scene: Scene, n: int) -> tuple[int, int]:
    """Choose the upper left corner of an object: anywhere, or close to an earlier one."""
    height, width = scene.image.shape[:2]
    left, top = (int(rng.integers(-n // 3, max(side - 2 * n // 3, 1))) for side in (width, height))
    if scene.opacities and rng.uniform() < CROWDING:
        other = scene.opacities[int(rng.integers(len(scene.opacities)))]
        y, x = (int(values.mean()) for values in np.nonzero(other))
        reach = n // 2 + int(np.count_nonzero(other) ** 0.5 / 2)
        left = x - n // 2 + int(rng.integers(-reach, reach + 1))
        top = y - n // 2 + int(rng.integers(-reach, reach + 1))
    return left, top


def _shadow(
    rng: np.random.Generator, image: np.ndarray, alpha: np.ndarray, left: int, top: int
) -> None:
    """Darken what lies under an object, beside it."""
    strength, sigma = rng.uniform(0, 0.45), rng.uniform(0.02, 0.06) * len(alpha)
    shift = rng.uniform(-0.08, 0.08, 2) * len(alpha)
    matrix = np.float32([[1, 0, left + shift[0]], [0, 1, top + shift[1]]])
    shade = cv2.warpAffine(alpha, matrix, image.shape[1::-1])
    image *= 1 - strength * cv2.GaussianBlur(shade, (0, 0), max(sigma, 0.5))[..., None]


# --- objects ---------------------------------------------------------------------------------


def _sprite(rng: np.random.Generator, name: str, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw one object.

    Returns:
        Its colours, BGR, (n, n, 3), and its opacity, (n, n), 0 to 1, both float32.
    """
    # Drawn larger and averaged down: OpenCV smooths lines and polygons, but only a little.
    factor = 4 if size < 50 else 2
    n = int(np.ceil(1.1 * size)) + 2
    angle, aspect = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 1.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([1, aspect]) * size / 2 * factor
    offset = n * factor / 2 - 0.5 + rng.uniform(-0.5, 0.5, 2) * factor

    def pixels(points: np.ndarray) -> np.ndarray:
        return np.rint((points @ matrix.T + offset) * (1 << SHIFT)).astype(np.int32)

    main, second = _two_colours(rng, HUES[name])
    outline, parts = _shape(rng, name)
    outline = [pixels(part) for part in outline]
    mask = np.zeros((n * factor, n * factor), np.uint8)
    cv2.fillPoly(mask, outline, 255, cv2.LINE_AA, SHIFT)
    colours = np.full((*mask.shape, 3), main, np.uint8)
    for part in parts:
        cv2.fillPoly(colours, [pixels(part)], second.tolist(), cv2.LINE_AA, SHIFT)
    rim = main * rng.choice([0.25, 0.5, 1.5])
    thickness = max(1, round(factor * rng.uniform(0.5, 1 + size / 60)))
    cv2.polylines(colours, outline, True, rim.clip(0, 255).tolist(), thickness, cv2.LINE_AA, SHIFT)
    surface = cv2.resize(colours, (n, n), interpolation=cv2.INTER_AREA).astype(np.float32)
    surface *= _light(rng, n, rounded=name == 'ball')
    alpha = cv2.resize(mask, (n, n), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return surface, alpha


def _light(rng: np.random.Generator, n: int, rounded: bool) -> np.ndarray:
    """Brightness of a surface lit from one side, with grain and fine stripes, (n, n, 1)."""
    axis = np.linspace(-1, 1, n, dtype=np.float32)
    u, v = axis[None], axis[:, None]
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.35)
    light = 1 + strength * (np.cos(angle) * u + np.sin(angle) * v)
    if rounded:
        centre = 0.35 * np.array([np.cos(angle), np.sin(angle)], np.float32)
        distance = (u - centre[0]) ** 2 + (v - centre[1]) ** 2
        light = light + 0.35 * np.exp(-6 * distance) - 0.25 * distance
    stripes, frequency = rng.uniform(0, 2 * np.pi), rng.uniform(8, 25)
    wave = np.sin(frequency * (np.cos(stripes) * u + np.sin(stripes) * v))
    light = light + rng.uniform(0, 0.12) * wave + 0.05 * _noise(rng, n, n, 0.2)
    return light[..., None]


def _two_colours(rng: np.random.Generator, usual_hue: float) -> np.ndarray:
    """Return two BGR colours that can be told apart, the first near ``usual_hue``, (2, 3)."""
    # OpenCV halves the degrees to fit a byte.
    hue = (rng.normal(usual_hue, HUE_SPREAD) / 2) % 180
    saturation, value = rng.uniform(110, 255), rng.uniform(90, 255)
    contrast = 105 if value < 150 else -105
    hsv = [[hue, saturation, value], [hue, rng.uniform(20, 255), value + contrast]]
    hsv = np.clip(hsv, 0, 255).astype(np.uint8)[None]
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0].astype(np.float64)


def _circle(radius: float = 1.0, start: float = 0.0, stop: float = 2 * np.pi) -> np.ndarray:
    return _polar(radius, np.linspace(start, stop, 64))


def _polar(radii: float | np.ndarray, angles: np.ndarray) -> np.ndarray:
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)


def _band(half_width: float, centre: float = 0.0, upright: bool = False) -> np.ndarray:
    low, high = centre - half_width, centre + half_width
    points = np.array([[-1.2, low], [1.2, low], [1.2, high], [-1.2, high]])
    return points[:, ::-1] if upright else points


def _shape(rng: np.random.Generator, name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Outline, one polygon or one inside another, and the parts in a second colour.

    All fit the unit circle.
    """
    centre = np.zeros((1, 2))
    if name == 'ball':
        return [_circle()], [_band(rng.uniform(0.15, 0.3), rng.uniform(-0.3, 0.3))]
    if name == 'box':
        tapes = [_band(rng.uniform(0.08, 0.16), rng.uniform(-0.2, 0.2), bool(i)) for i in range(2)]
        return [0.74 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])], tapes
    if name == 'sign':
        triangle = _circle()[[0, 21, 42]]
        return [triangle], [rng.uniform(0.55, 0.7) * triangle]
    if name == 'star':
        radii = np.where(np.arange(10) % 2, rng.uniform(0.42, 0.55), 1)
        points = _polar(radii, np.arange(10) * np.pi / 5)
        # One half of every ray, as on a faceted star.
        return [points], [np.concatenate([centre, points[i : i + 2]]) for i in range(0, 10, 2)]
    count = int(rng.integers(3, 6))
    edges = np.arange(count) * 2 * np.pi / count
    wedges = [np.concatenate([centre, _circle(1.2, a, a + np.pi / count)]) for a in edges]
    return [_circle(), _circle(rng.uniform(0.45, 0.6))], wedges


# --- backgrounds -----------------------------------------------------------------------------


def _noise(rng: np.random.Generator, width: int, height: int, falloff: float) -> np.ndarray:
    """Sum of octaves of smooth noise with standard deviation 1, (height, width), float32.

    Photographs have about the same energy in every octave (``falloff`` 0); more is smoother.
    """
    total = np.zeros((height, width), np.float32)
    energy, cells = 0.0, 2
    while cells <= max(width, height) / 2:
        shape = (max(2, round(cells * height / width)) + 1, cells + 1)
        grid = rng.standard_normal(shape, dtype=np.float32)
        amplitude = cells**-falloff
        total += amplitude * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        energy += amplitude**2
        cells *= 2
    return total / np.float32(energy**0.5)


def _background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Return a textured background with soft clutter, BGR, (height, width, 3), float32."""
    ends = rng.uniform(40, 215, (2, 1)) + rng.normal(0, 20, (2, 3))
    angle = rng.uniform(0, 2 * np.pi)
    u = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None] * np.cos(angle)
    v = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * np.sin(angle)
    weight = (0.5 + u + v)[..., None].astype(np.float32)
    ends = ends.astype(np.float32)
    canvas = ends[0] + weight * (ends[1] - ends[0])
    falloff = rng.uniform(0.1, 0.7)
    canvas += rng.uniform(8, 40) * _noise(rng, width, height, falloff)[..., None]
    tint = rng.normal(0, 1, 3).astype(np.float32)
    canvas += rng.uniform(1, 8) * _noise(rng, width, height, falloff + 0.3)[..., None] * tint
    for _ in range(rng.integers(3, 9)):
        _clutter(rng, canvas)
    return canvas


def _clutter(rng: np.random.Generator, canvas: np.ndarray) -> None:
    """Blend one large shape with blurred edges into a background, in place."""
    height, width = canvas.shape[:2]
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
    radii = rng.uniform(0.05, 0.4) * width * rng.uniform(0.5, 1, len(angles))
    points = _polar(radii, angles) + rng.uniform(0, 1, 2) * [width, height]
    mask = np.zeros((height, width), np.float32)
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], rng.uniform(0.15, 0.7))
    mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 5))[..., None]
    colour = rng.uniform(20, 235) + rng.normal(0, 22, 3)
    canvas += mask * (colour.astype(np.float32) - canvas)


def _photograph(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Return a canvas as a camera sees it: slightly out of focus, with sensor noise, uint8."""
    sigma = rng.uniform(0, 0.8)
    if sigma > 0.3:
        canvas = cv2.GaussianBlur(canvas, (0, 0), sigma)
    noise = rng.standard_normal((*canvas.shape[:2], 1), dtype=np.float32)
    canvas = canvas * np.float32(rng.uniform(0.8, 1.1)) + np.float32(rng.uniform(1, 5)) * noise
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
