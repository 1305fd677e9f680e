"""The same work as text: the recipe, and the script that needs no widget."""

import traitlets as t

from workbench.widgets._base import View


class CodeView(View):
    """The live recipe as a runnable script and as JSON."""

    module = "code_view"
    calls = ("copy",)

    language = t.Enum(("python", "json"), "python").tag(sync=True)
    """Which form is shown.
    - Type: `"python"` or `"json"`, default: `"python"`
    """
    python = t.Unicode("").tag(sync=True)
    """The recipe as a script."""
    json = t.Unicode("").tag(sync=True)
    """The recipe as a document."""

    def copy(self) -> str:
        """Give the text shown (the button puts it on the clipboard)."""
        return str(getattr(self, self.language))

    def refresh(self) -> None:
        """Print the recipe anew when it changed."""
        if self.recipe_is_new():
            recipe = self.session.recipe
            self.python = recipe.to_code()
            self.json = recipe.to_json()
