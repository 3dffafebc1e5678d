"""What kind of file some bytes are, judged from the bytes alone by Magika. Its weights are inside the magika package."""

import base64
from time import perf_counter

import roost
from pydantic import BaseModel, Field


class Input(BaseModel):
    file: str = Field(description="The file's content as a data URI (what it claims to be is ignored) or in plain base64.")


class Output(BaseModel):
    label: str = Field(description="A short name, such as `python` or `pdf`.")
    description: str
    mime_type: str
    group: str = Field(description="What it is more broadly, such as `code`, `document` or `image`.")
    extensions: list[str]
    is_text: bool
    score: float = Field(description="How sure the model is, from 0 to 1.")
    seconds: float = Field(description="How long identifying took.")


class Identify(roost.App):
    requirements = ["magika==1.0.3", "onnxruntime>=1.23,<2"]
    keep_alive = 60

    def setup(self) -> None:
        from magika import Magika

        self.magika = Magika()
        self.magika.identify_bytes(b"print('warm up')\n" * 9)  # a handful of bytes would not reach the model

    @roost.endpoint("/")
    def identify(self, input: Input) -> Output:
        """Say what kind of file these bytes are."""
        began = perf_counter()
        result = self.magika.identify_bytes(content(input.file))
        kind = result.output
        return Output(
            label=kind.label,
            description=kind.description,
            mime_type=kind.mime_type,
            group=kind.group,
            extensions=kind.extensions,
            is_text=kind.is_text,
            score=round(result.score, 3),
            seconds=round(perf_counter() - began, 4),
        )


def content(text: str) -> bytes:
    """The bytes behind a data URI or plain base64."""
    head, _, body = text.partition(",")
    is_uri = head.startswith("data:") and head.endswith(";base64")
    try:
        return base64.b64decode(body if is_uri else text, validate=True)
    except ValueError as error:
        raise roost.FieldException("file", "must be a data URI in base64 or plain base64; addresses are not fetched") from error
