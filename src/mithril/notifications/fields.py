"""The fields of a webhook, for API and command line (rules NTF-1 to NTF-3)."""

from mithril.validation.fields import Fields

WEBHOOK = Fields("mithril.notifications", "webhook.json")
