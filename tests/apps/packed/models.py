"""Pydantic models as authors write them."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Generic, Literal, TypeVar

import pydantic
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    TypeAdapter,
    computed_field,
    field_serializer,
    field_validator,
    model_validator,
)

import roost

T = TypeVar("T")
LIMIT = 100


class Mode(str, enum.Enum):
    fast = "fast"
    slow = "slow"


def no_shouting(text: str) -> str:
    if text.isupper():
        raise ValueError("no shouting")
    return text


Quiet = Annotated[str, AfterValidator(no_shouting)]


class Inner(BaseModel):
    n: int = Field(ge=0, description="how many")
    tag: str = Field("x", pattern="^x", strict=True)

    @field_validator("n")
    @classmethod
    def not_thirteen(cls, value: int) -> int:
        if value == 13 or value > LIMIT:
            raise ValueError("unlucky")
        return value


class Box(BaseModel, Generic[T]):
    item: T
    more: list[Box[T]] = []


class Left(BaseModel):
    kind: Literal["left"] = "left"
    right: Right | None = None


class Right(BaseModel):
    kind: Literal["right"] = "right"
    left: Left | None = None


class Shelf(BaseModel):
    """Refers to a generic of itself."""

    boxes: list[Box[Shelf]] = []
    name: str = "shelf"


class Names(RootModel[list[str]]):
    pass


class Base(BaseModel):
    model_config = ConfigDict(extra="forbid")
    created_by: Quiet = "me"

    @model_validator(mode="after")
    def both(self) -> Base:
        if self.created_by == "nobody":
            raise ValueError("somebody must")
        return self


class Input(Base):
    prompt: Quiet = Field(examples=["a cat"])
    inner: Inner = Inner(n=1)
    box: Box[Inner] = Field(default_factory=lambda: Box[Inner](item=Inner(n=2)))
    mode: Mode = Mode.fast
    nxt: Input | None = None
    side: Left | Right = Field(default_factory=Left, discriminator="kind")
    names: Names = Names(["a"])
    _hidden: int = PrivateAttr(default=7)

    @model_validator(mode="before")
    @classmethod
    def from_text(cls, value: Any) -> Any:
        return {"prompt": value} if isinstance(value, str) else value

    @computed_field
    @property
    def length(self) -> int:
        return len(self.prompt)

    @field_serializer("mode")
    def mode_in_capitals(self, value: Mode) -> str:
        return value.value.upper()


@pydantic.dataclasses.dataclass
class Size:
    width: int
    height: int = Field(1, gt=0)
    inner: Inner | None = None


MANY = TypeAdapter(list[Input])
DEFAULT = Input(prompt="module level")


class Output(BaseModel):
    text: str
    made: Box[Inner]


class Models(roost.App):
    @roost.endpoint("/")
    def root(self, input: Input) -> Output:
        return Output(text=input.prompt, made=Box[Inner](item=Inner(n=3)))

    def check(self) -> dict:
        """What the test asks for elsewhere."""
        value = Input(prompt="cat", nxt={"prompt": "dog"}, side={"kind": "right", "left": {}})
        errors = []
        for wrong in (
            {"prompt": "CAT"},
            {"prompt": "c", "inner": {"n": 13}},
            {"prompt": "c", "odd": 1},
            {"prompt": "c", "created_by": "nobody"},
            {"prompt": "c", "inner": {"n": 1, "tag": "y"}},
        ):
            try:
                Input(**wrong)
            except pydantic.ValidationError as error:
                errors.append(error.errors()[0]["type"])
        return {
            "dump": value.model_dump(mode="json"),
            "hidden": value._hidden,
            "errors": errors,
            "from_text": Input.model_validate("cow").prompt,
            "json": Input.model_validate_json('{"prompt": "j"}').prompt,
            "schema": Input.model_json_schema(),
            "size": Size(width="3", inner={"n": 4}).inner.n,
            "many": MANY.validate_python([{"prompt": "m"}])[0].prompt,
            "default": DEFAULT.prompt,
            "copied": DEFAULT.model_copy(update={"prompt": "p"}).length,
            "same_generic": type(Input.model_fields["box"].default_factory()) is Box[Inner] is Output.model_fields["made"].annotation,
            "generic": Box[int](item="5", more=[{"item": 6}]).more[0].item,
            "shelf": Shelf(boxes=[{"item": {"name": "s", "boxes": [{"item": {}}]}}]).boxes[0].item.boxes[0].item.name,
            "output": self.root(value).model_dump(),
        }
