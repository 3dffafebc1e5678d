"""Text in a picture, read by PP-OCR. Its weights are inside the rapidocr package: nothing is downloaded when the app runs."""

import base64
from io import BytesIO
from time import perf_counter
from typing import Any

import roost
from pydantic import BaseModel, Field

MOST_PIXELS = 16_000_000
THINNEST = 10  # narrow strips are enlarged until they can be read, and then fill the memory


class Input(BaseModel):
    image: str = Field(description="A picture (PNG, JPEG, WebP, ...) as a data URI or in plain base64.")


class Line(BaseModel):
    text: str
    confidence: float = Field(description="From 0 to 1.")
    box: list[tuple[float, float]] = Field(description="The four corners, x and y in pixels, clockwise from the top left of the text.")


class Output(BaseModel):
    text: str = Field(description="All lines, one below the other. Empty if there is no text in the picture.")
    lines: list[Line]
    seconds: float = Field(description="How long reading took.")


class Ocr(roost.App):
    requirements = ["rapidocr==3.10.0", "onnxruntime>=1.23,<2"]
    keep_alive = 60

    def setup(self) -> None:
        from PIL import Image, ImageDraw
        from rapidocr import RapidOCR

        self.engine = RapidOCR(params={"EngineConfig.onnxruntime.intra_op_num_threads": 2, "Global.log_level": "error"})
        # Each of its models is loaded when it is first needed: after an empty page, the first caller would wait for those that read.
        page = Image.new("RGB", (240, 240), "white")
        ImageDraw.Draw(page).text((20, 90), "Warm up", fill="black", font_size=40)
        self.engine(page)

    @roost.endpoint("/")
    def read(self, input: Input) -> Output:
        """Find the lines of text in a picture and read them."""
        began = perf_counter()
        found = self.engine(picture(input.image))
        rows = zip(found.txts, found.scores, found.boxes, strict=True) if found else ()
        lines = [Line(text=text, confidence=round(score, 3), box=box.round(1).tolist()) for text, score, box in rows]
        return Output(text="\n".join(line.text for line in lines), lines=lines, seconds=round(perf_counter() - began, 3))


def picture(text: str) -> Any:
    """The PIL image in a data URI or plain base64, upright and in plain colours."""
    from PIL import Image, ImageOps

    head, _, body = text.partition(",")
    is_uri = head.startswith("data:") and head.endswith(";base64")
    try:
        content = base64.b64decode(body if is_uri else text, validate=True)
    except ValueError as error:
        raise roost.FieldException("image", "must be a data URI in base64 or plain base64; addresses are not fetched") from error
    try:
        opened = Image.open(BytesIO(content))  # reads its size only
        long, short = max(opened.size), min(opened.size)
        if long * short > MOST_PIXELS or long > THINNEST * short:
            limits = f"at most {MOST_PIXELS // 1_000_000} million, and no side more than {THINNEST} times the other"
            raise roost.FieldException("image", f"has {opened.width} x {opened.height} pixels; it may have {limits}")
        return ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises for broken files
        raise roost.FieldException("image", "is not a picture that can be opened, or only a part of one") from error
