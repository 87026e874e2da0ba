"""The picture says what the figures say."""

import io

from PIL import Image

from hybridqa.eval.probes.heatmap import Panel, Square, colour_of, heatmap


def test_every_square_has_the_colour_of_its_share() -> None:
    panel = Panel("one", [[Square(1.0, ""), Square(None, "too long")], [Square(0.0, "")] * 2])
    png = heatmap("title", [panel] * 3, ["0", "1"], ["256", "512"], "depth", "tokens", "word " * 99)
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    areas = {colour: count for count, colour in picture.getcolors(1 << 20) or []}

    square = areas[colour_of(1.0)]
    assert square > 2000
    assert areas[colour_of(0.0)] == 2 * square
    assert areas[226, 226, 226] > square / 2  # a name is written on it


def test_colours_run_from_dark_to_light() -> None:
    lightness = [sum(colour_of(n / 20)) for n in range(21)]

    assert lightness == sorted(lightness)
    assert colour_of(1.0) == (253, 231, 37)


def test_a_long_caption_makes_a_taller_picture() -> None:
    panel = Panel("one", [[Square(0.5, "50%")]])

    def size(caption: str) -> tuple[int, int]:
        png = heatmap("title", [panel], ["0"], ["256"], "depth", "tokens", caption)
        return Image.open(io.BytesIO(png)).size

    width, height = size("Short.")
    assert size("word " * 200)[0] == width
    assert size("word " * 200)[1] > height + 5 * 13
