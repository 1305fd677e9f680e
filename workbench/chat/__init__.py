"""Talk to a model and its quantized variants, side by side."""

from workbench.chat.answer import Answer, first_divergence
from workbench.chat.chat import Chat
from workbench.chat.settings import ChatSettings
from workbench.chat.variants import variants

__all__ = ["Answer", "Chat", "ChatSettings", "first_divergence", "variants"]
