"""How answers are drawn: length, sampling, seed, and what the model is told to be."""

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workbench.errors import WorkbenchError, complaint

MESSAGE_LIMIT = 20_000  # characters; a longer message is a file, and no model here reads it


class ChatSettings(BaseModel):
    """Sampling settings by the names that `generate` has; temperature 0 takes the likeliest token.

    The same `seed` gives the same answers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_new_tokens: int = Field(default=128, ge=1, le=4096)
    temperature: float = Field(default=0.0, ge=0, le=5)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=50, ge=0)
    seed: int = Field(default=0, ge=0)
    system: str = Field(default="", max_length=MESSAGE_LIMIT)

    def changed(self, **values: object) -> "ChatSettings":
        """These settings with `values`; raises WorkbenchError naming the one that is refused."""
        try:
            return ChatSettings.model_validate(self.model_dump() | values)
        except ValidationError as error:
            raise WorkbenchError(complaint(error)) from error

    def sampling(self) -> dict[str, object]:
        """The keyword arguments of `generate`."""
        if self.temperature == 0:
            return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        return {
            "do_sample": True,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
        }
